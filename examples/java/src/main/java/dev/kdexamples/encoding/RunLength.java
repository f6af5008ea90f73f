// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.encoding;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/** Run-length encoding of text: {@code "aaab"} becomes {@code "3a1b"}. Digits cannot be encoded. */
public final class RunLength {

    /** A character and how often it is repeated. */
    public record Run(char symbol, int count) {

        public Run {
            if (count < 1) {
                throw new IllegalArgumentException("count must be at least 1: " + count);
            }
        }

        @Override
        public String toString() {
            return count + String.valueOf(symbol);
        }
    }

    private RunLength() {
    }

    /** The runs of a text in order. */
    public static List<Run> runs(String text) {
        Objects.requireNonNull(text, "text");
        List<Run> runs = new ArrayList<>();
        int start = 0;
        for (int i = 1; i <= text.length(); i++) {
            if (i == text.length() || text.charAt(i) != text.charAt(start)) {
                runs.add(new Run(text.charAt(start), i - start));
                start = i;
            }
        }
        return runs;
    }

    /** Encodes each run as its count and its character. */
    public static String encode(String text) {
        return encode(text, false);
    }

    /** Encodes; a short form leaves out counts of one. */
    public static String encode(String text, boolean shortForm) {
        StringBuilder out = new StringBuilder();
        for (Run run : runs(text)) {
            if (Character.isDigit(run.symbol())) {
                throw new IllegalArgumentException("digits cannot be encoded: " + text);
            }
            if (run.count() > 1 || !shortForm) {
                out.append(run.count());
            }
            out.append(run.symbol());
        }
        return out.toString();
    }

    /** Decodes the long or the short form. */
    public static String decode(String encoded) {
        StringBuilder out = new StringBuilder();
        int count = 0;
        boolean counted = false;
        for (char c : encoded.toCharArray()) {
            if (Character.isDigit(c)) {
                count = Math.addExact(Math.multiplyExact(count, 10), Character.digit(c, 10));
                counted = true;
                continue;
            }
            if (counted && count == 0) {
                throw new IllegalArgumentException("a run of length zero: " + encoded);
            }
            out.append(String.valueOf(c).repeat(counted ? count : 1));
            count = 0;
            counted = false;
        }
        if (counted) {
            throw new IllegalArgumentException("a count without a character: " + encoded);
        }
        return out.toString();
    }

    /** The longest run, the first of several, or null for empty text. */
    public static Run longest(String text) {
        Run longest = null;
        for (Run run : runs(text)) {
            if (longest == null || run.count() > longest.count()) {
                longest = run;
            }
        }
        return longest;
    }

    /** The length of the encoding as a share of the length of the text. */
    public static double ratio(String text) {
        if (text.isEmpty()) {
            throw new IllegalArgumentException("empty text has no ratio");
        }
        return (double) encode(text).length() / text.length();
    }
}
