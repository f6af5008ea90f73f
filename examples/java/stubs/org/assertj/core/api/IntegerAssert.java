// SPDX-License-Identifier: Apache-2.0
package org.assertj.core.api;

/** Stand-in for the AssertJ class of this name. */
public class IntegerAssert extends AbstractAssert<IntegerAssert, Integer> {

    public IntegerAssert(Integer actual) {
        super(actual);
    }

    @Override
    protected IntegerAssert self() {
        return this;
    }

    public IntegerAssert isZero() {
        return check(actual == 0, "is not zero");
    }
}
