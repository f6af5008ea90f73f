// SPDX-License-Identifier: Apache-2.0
package org.hamcrest;

import java.util.Arrays;
import java.util.Collection;
import java.util.Map;
import java.util.Objects;
import java.util.function.Predicate;

/** Stand-in for the Hamcrest matchers that the example tests use. */
public final class Matchers {

    private Matchers() {
    }

    private static <T> Matcher<T> matcher(String description, Predicate<Object> test) {
        return new Matcher<>() {
            @Override
            public boolean matches(Object actual) {
                return test.test(actual);
            }

            @Override
            public String toString() {
                return description;
            }
        };
    }

    public static <T> Matcher<T> equalTo(T expected) {
        return matcher("<" + expected + ">", actual -> Objects.equals(actual, expected));
    }

    public static <T> Matcher<T> is(T expected) {
        return equalTo(expected);
    }

    public static <T> Matcher<T> is(Matcher<T> matcher) {
        return matcher;
    }

    public static <T> Matcher<T> not(T unexpected) {
        return not(equalTo(unexpected));
    }

    public static <T> Matcher<T> not(Matcher<T> matcher) {
        return matcher("not " + matcher, actual -> !matcher.matches(actual));
    }

    public static <T> Matcher<T> sameInstance(T expected) {
        return matcher("same instance as <" + expected + ">", actual -> actual == expected);
    }

    public static Matcher<Object> nullValue() {
        return matcher("null", Objects::isNull);
    }

    public static Matcher<Object> notNullValue() {
        return matcher("not null", Objects::nonNull);
    }

    public static <T> Matcher<T> instanceOf(Class<?> type) {
        return matcher("an instance of " + type.getName(), type::isInstance);
    }

    private static <T extends Comparable<T>> int compare(Object actual, T value) {
        @SuppressWarnings("unchecked")
        T typed = (T) actual;
        return typed.compareTo(value);
    }

    public static <T extends Comparable<T>> Matcher<T> greaterThan(T value) {
        return matcher("greater than <" + value + ">", actual -> compare(actual, value) > 0);
    }

    public static <T extends Comparable<T>> Matcher<T> greaterThanOrEqualTo(T value) {
        return matcher("at least <" + value + ">", actual -> compare(actual, value) >= 0);
    }

    public static <T extends Comparable<T>> Matcher<T> lessThan(T value) {
        return matcher("less than <" + value + ">", actual -> compare(actual, value) < 0);
    }

    public static Matcher<Double> closeTo(double value, double error) {
        return matcher("within " + error + " of <" + value + ">",
                actual -> actual instanceof Double number && Math.abs(number - value) <= error);
    }

    public static Matcher<String> containsString(String part) {
        return matcher("text with <" + part + ">", actual -> actual instanceof String s && s.contains(part));
    }

    public static Matcher<String> startsWith(String prefix) {
        return matcher("text from <" + prefix + ">",
                actual -> actual instanceof String s && s.startsWith(prefix));
    }

    public static <E> Matcher<Collection<? extends E>> hasSize(int size) {
        return matcher("of size " + size, actual -> actual instanceof Collection<?> c && c.size() == size);
    }

    public static <E> Matcher<Collection<? extends E>> empty() {
        return matcher("empty", actual -> actual instanceof Collection<?> c && c.isEmpty());
    }

    public static <T> Matcher<Iterable<? super T>> hasItem(T item) {
        return matcher("with item <" + item + ">",
                actual -> actual instanceof Collection<?> c && c.contains(item));
    }

    @SafeVarargs
    @SuppressWarnings("varargs")
    public static <E> Matcher<Iterable<? extends E>> contains(E... items) {
        return matcher("exactly " + Arrays.toString(items),
                actual -> actual instanceof Collection<?> c
                        && Arrays.asList(items).equals(Arrays.asList(c.toArray())));
    }

    public static <K> Matcher<Map<? extends K, ?>> hasKey(K key) {
        return matcher("with key <" + key + ">",
                actual -> actual instanceof Map<?, ?> m && m.containsKey(key));
    }

    public static <K, V> Matcher<Map<? extends K, ? extends V>> hasEntry(K key, V value) {
        return matcher("with entry <" + key + "=" + value + ">",
                actual -> actual instanceof Map<?, ?> m
                        && m.containsKey(key)
                        && Objects.equals(m.get(key), value));
    }
}
