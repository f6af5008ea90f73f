// SPDX-License-Identifier: Apache-2.0
package org.assertj.core.api;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;

/** Stand-in for the AssertJ entry points that the example tests use. */
public final class Assertions {

    private Assertions() {
    }

    public static BooleanAssert assertThat(boolean actual) {
        return new BooleanAssert(actual);
    }

    public static IntegerAssert assertThat(int actual) {
        return new IntegerAssert(actual);
    }

    public static LongAssert assertThat(long actual) {
        return new LongAssert(actual);
    }

    public static StringAssert assertThat(String actual) {
        return new StringAssert(actual);
    }

    public static <T> ListAssert<T> assertThat(List<? extends T> actual) {
        return new ListAssert<>(actual);
    }

    public static <T> ListAssert<T> assertThat(Collection<? extends T> actual) {
        return new ListAssert<>(new ArrayList<>(actual));
    }

    public static <T> ObjectAssert<T> assertThat(T actual) {
        return new ObjectAssert<>(actual);
    }

    public static ThrowableAssert assertThatThrownBy(ThrowableAssert.ThrowingCallable code) {
        try {
            code.call();
        } catch (Throwable t) {
            return new ThrowableAssert(t);
        }
        throw new AssertionError("nothing was thrown");
    }
}
