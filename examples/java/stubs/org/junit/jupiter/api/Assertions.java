// SPDX-License-Identifier: Apache-2.0
package org.junit.jupiter.api;

import java.util.Arrays;
import java.util.Iterator;
import java.util.Objects;
import org.junit.jupiter.api.function.Executable;

/** Stand-in for the JUnit 5 assertions that the example tests use. */
public final class Assertions {

    private Assertions() {
    }

    private static void check(boolean holds, String message, String problem) {
        if (!holds) {
            throw new AssertionError(message == null ? problem : message + " ==> " + problem);
        }
    }

    private static String expected(Object expected, Object actual) {
        return "expected: <" + expected + "> but was: <" + actual + ">";
    }

    public static void assertTrue(boolean condition) {
        assertTrue(condition, null);
    }

    public static void assertTrue(boolean condition, String message) {
        check(condition, message, expected(true, false));
    }

    public static void assertFalse(boolean condition) {
        assertFalse(condition, null);
    }

    public static void assertFalse(boolean condition, String message) {
        check(!condition, message, expected(false, true));
    }

    public static void assertNull(Object actual) {
        assertNull(actual, null);
    }

    public static void assertNull(Object actual, String message) {
        check(actual == null, message, expected(null, actual));
    }

    public static void assertNotNull(Object actual) {
        assertNotNull(actual, null);
    }

    public static void assertNotNull(Object actual, String message) {
        check(actual != null, message, "expected: not <null>");
    }

    public static void assertEquals(int expected, int actual) {
        assertEquals(expected, actual, (String) null);
    }

    public static void assertEquals(int expected, int actual, String message) {
        check(expected == actual, message, expected(expected, actual));
    }

    public static void assertEquals(long expected, long actual) {
        assertEquals(expected, actual, (String) null);
    }

    public static void assertEquals(long expected, long actual, String message) {
        check(expected == actual, message, expected(expected, actual));
    }

    public static void assertEquals(char expected, char actual) {
        check(expected == actual, null, expected(expected, actual));
    }

    public static void assertEquals(double expected, double actual) {
        assertEquals(expected, actual, (String) null);
    }

    public static void assertEquals(double expected, double actual, String message) {
        check(Double.compare(expected, actual) == 0, message, expected(expected, actual));
    }

    public static void assertEquals(double expected, double actual, double delta) {
        assertEquals(expected, actual, delta, null);
    }

    public static void assertEquals(double expected, double actual, double delta, String message) {
        if (!(delta > 0)) {
            throw new AssertionError("positive delta expected but was: <" + delta + ">");
        }
        boolean near = Double.compare(expected, actual) == 0 || Math.abs(expected - actual) <= delta;
        check(near, message, expected(expected, actual));
    }

    public static void assertEquals(int expected, Integer actual) {
        assertEquals((Object) expected, (Object) actual, null);
    }

    public static void assertEquals(Integer expected, int actual) {
        assertEquals((Object) expected, (Object) actual, null);
    }

    public static void assertEquals(Integer expected, Integer actual) {
        assertEquals((Object) expected, (Object) actual, null);
    }

    public static void assertEquals(long expected, Long actual) {
        assertEquals((Object) expected, (Object) actual, null);
    }

    public static void assertEquals(Long expected, long actual) {
        assertEquals((Object) expected, (Object) actual, null);
    }

    public static void assertEquals(Long expected, Long actual) {
        assertEquals((Object) expected, (Object) actual, null);
    }

    public static void assertEquals(double expected, Double actual) {
        assertEquals((Object) expected, (Object) actual, null);
    }

    public static void assertEquals(Double expected, double actual) {
        assertEquals((Object) expected, (Object) actual, null);
    }

    public static void assertEquals(Double expected, Double actual) {
        assertEquals((Object) expected, (Object) actual, null);
    }

    public static void assertEquals(Object expected, Object actual) {
        assertEquals(expected, actual, (String) null);
    }

    public static void assertEquals(Object expected, Object actual, String message) {
        check(Objects.equals(expected, actual), message, expected(expected, actual));
    }

    public static void assertNotEquals(int unexpected, int actual) {
        check(unexpected != actual, null, "expected: not equal but was: <" + actual + ">");
    }

    public static void assertNotEquals(long unexpected, long actual) {
        check(unexpected != actual, null, "expected: not equal but was: <" + actual + ">");
    }

    public static void assertNotEquals(Object unexpected, Object actual) {
        assertNotEquals(unexpected, actual, null);
    }

    public static void assertNotEquals(Object unexpected, Object actual, String message) {
        check(!Objects.equals(unexpected, actual), message, "expected: not equal but was: <" + actual + ">");
    }

    public static void assertSame(Object expected, Object actual) {
        assertSame(expected, actual, null);
    }

    public static void assertSame(Object expected, Object actual, String message) {
        check(expected == actual, message, expected(expected, actual));
    }

    public static void assertNotSame(Object unexpected, Object actual) {
        assertNotSame(unexpected, actual, null);
    }

    public static void assertNotSame(Object unexpected, Object actual, String message) {
        check(unexpected != actual, message, "expected: not same but was: <" + actual + ">");
    }

    public static void assertArrayEquals(int[] expected, int[] actual) {
        check(Arrays.equals(expected, actual), null,
                expected(Arrays.toString(expected), Arrays.toString(actual)));
    }

    public static void assertArrayEquals(byte[] expected, byte[] actual) {
        check(Arrays.equals(expected, actual), null,
                expected(Arrays.toString(expected), Arrays.toString(actual)));
    }

    public static void assertArrayEquals(double[] expected, double[] actual) {
        check(Arrays.equals(expected, actual), null,
                expected(Arrays.toString(expected), Arrays.toString(actual)));
    }

    public static void assertArrayEquals(double[] expected, double[] actual, double delta) {
        check(expected.length == actual.length, null,
                expected(Arrays.toString(expected), Arrays.toString(actual)));
        for (int i = 0; i < expected.length; i++) {
            assertEquals(expected[i], actual[i], delta, "index " + i);
        }
    }

    public static void assertArrayEquals(Object[] expected, Object[] actual) {
        check(Arrays.deepEquals(expected, actual), null,
                expected(Arrays.deepToString(expected), Arrays.deepToString(actual)));
    }

    public static void assertIterableEquals(Iterable<?> expected, Iterable<?> actual) {
        Iterator<?> left = expected.iterator();
        Iterator<?> right = actual.iterator();
        boolean same = true;
        while (same && left.hasNext() && right.hasNext()) {
            same = Objects.equals(left.next(), right.next());
        }
        check(same && !left.hasNext() && !right.hasNext(), null, expected(expected, actual));
    }

    public static <T> T assertInstanceOf(Class<T> type, Object actual) {
        check(type.isInstance(actual), null, "not an instance of " + type.getName() + ": <" + actual + ">");
        return type.cast(actual);
    }

    public static <T extends Throwable> T assertThrows(Class<T> type, Executable executable) {
        return assertThrows(type, executable, null);
    }

    public static <T extends Throwable> T assertThrows(
            Class<T> type, Executable executable, String message) {
        Throwable thrown = null;
        try {
            executable.execute();
        } catch (Throwable t) {
            thrown = t;
        }
        check(type.isInstance(thrown), message, "expected " + type.getName() + " but was: " + thrown);
        return type.cast(thrown);
    }

    public static void assertDoesNotThrow(Executable executable) {
        try {
            executable.execute();
        } catch (Throwable t) {
            throw new AssertionError("unexpected exception: " + t, t);
        }
    }
}
