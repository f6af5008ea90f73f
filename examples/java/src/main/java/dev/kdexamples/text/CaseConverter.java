// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.text;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.stream.Collectors;

/** Converts identifiers and phrases between naming styles. */
public final class CaseConverter {

    private CaseConverter() {
    }

    /**
     * Splits text into lower-case words. Words end at characters that are neither letters nor digits,
     * before an upper-case letter that follows a lower-case letter or a digit, and before the last
     * capital of a run that a lower-case letter follows ({@code HTTPServer} gives http, server).
     */
    public static List<String> words(String text) {
        Objects.requireNonNull(text, "text");
        List<String> words = new ArrayList<>();
        StringBuilder current = new StringBuilder();
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (!Character.isLetterOrDigit(c)) {
                flush(current, words);
                continue;
            }
            if (current.length() > 0 && startsWord(text, i)) {
                flush(current, words);
            }
            current.append(c);
        }
        flush(current, words);
        return words;
    }

    private static boolean startsWord(String text, int index) {
        if (!Character.isUpperCase(text.charAt(index))) {
            return false;
        }
        char before = text.charAt(index - 1);
        if (Character.isLowerCase(before) || Character.isDigit(before)) {
            return true;
        }
        return index + 1 < text.length() && Character.isLowerCase(text.charAt(index + 1));
    }

    private static void flush(StringBuilder current, List<String> words) {
        if (current.length() > 0) {
            words.add(current.toString().toLowerCase(Locale.ROOT));
            current.setLength(0);
        }
    }

    /** {@code "order line id"} to {@code "orderLineId"}. */
    public static String toCamel(String text) {
        String pascal = toPascal(text);
        return pascal.isEmpty() ? pascal : Character.toLowerCase(pascal.charAt(0)) + pascal.substring(1);
    }

    /** {@code "order line id"} to {@code "OrderLineId"}. */
    public static String toPascal(String text) {
        StringBuilder result = new StringBuilder();
        for (String word : words(text)) {
            result.append(capitalize(word));
        }
        return result.toString();
    }

    /** {@code "orderLineId"} to {@code "order_line_id"}. */
    public static String toSnake(String text) {
        return String.join("_", words(text));
    }

    /** {@code "orderLineId"} to {@code "ORDER_LINE_ID"}. */
    public static String toConstant(String text) {
        return toSnake(text).toUpperCase(Locale.ROOT);
    }

    /** {@code "orderLineId"} to {@code "order-line-id"}. */
    public static String toKebab(String text) {
        return String.join("-", words(text));
    }

    /** {@code "orderLineId"} to {@code "Order Line Id"}. */
    public static String toTitle(String text) {
        return words(text).stream().map(CaseConverter::capitalize).collect(Collectors.joining(" "));
    }

    /** Raises the first character and leaves the others. */
    public static String capitalize(String word) {
        Objects.requireNonNull(word, "word");
        return word.isEmpty() ? word : Character.toUpperCase(word.charAt(0)) + word.substring(1);
    }

    /** Whether the text is already in snake case. */
    public static boolean isSnake(String text) {
        return !text.isEmpty() && text.equals(toSnake(text));
    }
}
