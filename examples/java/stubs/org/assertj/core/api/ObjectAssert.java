// SPDX-License-Identifier: Apache-2.0
package org.assertj.core.api;

/** Stand-in for the AssertJ class of this name. */
public class ObjectAssert<T> extends AbstractAssert<ObjectAssert<T>, T> {

    public ObjectAssert(T actual) {
        super(actual);
    }

    @Override
    protected ObjectAssert<T> self() {
        return this;
    }
}
