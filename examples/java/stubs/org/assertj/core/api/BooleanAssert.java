// SPDX-License-Identifier: Apache-2.0
package org.assertj.core.api;

/** Stand-in for the AssertJ class of this name. */
public class BooleanAssert extends AbstractAssert<BooleanAssert, Boolean> {

    public BooleanAssert(Boolean actual) {
        super(actual);
    }

    @Override
    protected BooleanAssert self() {
        return this;
    }

    public BooleanAssert isTrue() {
        return check(actual, "is not true");
    }

    public BooleanAssert isFalse() {
        return check(!actual, "is not false");
    }
}
