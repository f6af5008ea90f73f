// SPDX-License-Identifier: Apache-2.0
package org.assertj.core.api;

import java.util.Arrays;
import java.util.List;

/** Stand-in for the AssertJ class of this name. */
public class ListAssert<T> extends AbstractAssert<ListAssert<T>, List<? extends T>> {

    public ListAssert(List<? extends T> actual) {
        super(actual);
    }

    @Override
    protected ListAssert<T> self() {
        return this;
    }

    public ListAssert<T> isEmpty() {
        return check(actual.isEmpty(), "is not empty");
    }

    public ListAssert<T> hasSize(int expected) {
        return check(actual.size() == expected, "does not have size " + expected);
    }

    @SafeVarargs
    @SuppressWarnings("varargs")
    public final ListAssert<T> contains(T... values) {
        return check(
                actual.containsAll(Arrays.asList(values)),
                "does not contain " + Arrays.toString(values));
    }

    @SafeVarargs
    @SuppressWarnings("varargs")
    public final ListAssert<T> doesNotContain(T... values) {
        return check(
                Arrays.stream(values).noneMatch(actual::contains),
                "contains one of " + Arrays.toString(values));
    }

    @SafeVarargs
    @SuppressWarnings("varargs")
    public final ListAssert<T> containsExactly(T... values) {
        return check(
                actual.equals(Arrays.asList(values)),
                "is not " + Arrays.toString(values));
    }
}
