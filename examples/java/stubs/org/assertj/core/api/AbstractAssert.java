// SPDX-License-Identifier: Apache-2.0
package org.assertj.core.api;

import java.util.Objects;

/** Stand-in for the AssertJ class of this name. */
public abstract class AbstractAssert<S extends AbstractAssert<S, A>, A> {

    protected final A actual;
    private String description;

    protected AbstractAssert(A actual) {
        this.actual = actual;
    }

    protected abstract S self();

    protected S check(boolean holds, String problem) {
        if (!holds) {
            String prefix = description == null ? "" : "[" + description + "] ";
            throw new AssertionError(prefix + "<" + actual + "> " + problem);
        }
        return self();
    }

    public S as(String text) {
        description = text;
        return self();
    }

    public S isEqualTo(Object expected) {
        return check(Objects.equals(actual, expected), "is not equal to <" + expected + ">");
    }

    public S isNotEqualTo(Object other) {
        return check(!Objects.equals(actual, other), "is equal to <" + other + ">");
    }

    public S isSameAs(Object expected) {
        return check(actual == expected, "is not the same as <" + expected + ">");
    }

    public S isNotSameAs(Object other) {
        return check(actual != other, "is the same as <" + other + ">");
    }

    public void isNull() {
        check(actual == null, "is not null");
    }

    public S isNotNull() {
        return check(actual != null, "is null");
    }

    public S isInstanceOf(Class<?> type) {
        return check(type.isInstance(actual), "is not an instance of " + type.getName());
    }
}
