// SPDX-License-Identifier: Apache-2.0
package org.hamcrest;

/** Stand-in for the Hamcrest class of this name. */
public final class MatcherAssert {

    private MatcherAssert() {
    }

    public static <T> void assertThat(T actual, Matcher<? super T> matcher) {
        assertThat("", actual, matcher);
    }

    public static <T> void assertThat(String reason, T actual, Matcher<? super T> matcher) {
        if (!matcher.matches(actual)) {
            throw new AssertionError(reason + "\nExpected: " + matcher + "\n     but: was " + actual);
        }
    }

    public static void assertThat(String reason, boolean holds) {
        if (!holds) {
            throw new AssertionError(reason);
        }
    }
}
