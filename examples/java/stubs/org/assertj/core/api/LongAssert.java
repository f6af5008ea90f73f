// SPDX-License-Identifier: Apache-2.0
package org.assertj.core.api;

/** Stand-in for the AssertJ class of this name. */
public class LongAssert extends AbstractAssert<LongAssert, Long> {

    public LongAssert(Long actual) {
        super(actual);
    }

    @Override
    protected LongAssert self() {
        return this;
    }

    public LongAssert isEqualTo(long expected) {
        return check(actual == expected, "is not equal to <" + expected + ">");
    }

    public LongAssert isZero() {
        return check(actual == 0, "is not zero");
    }
}
