// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.text;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.Objects;

/** Distances between words: Levenshtein, Hamming, and what can be built from them. */
public final class EditDistance {

    private EditDistance() {
    }

    /** The least number of insertions, deletions and substitutions that turn one text into the other. */
    public static int levenshtein(String left, String right) {
        Objects.requireNonNull(left, "left");
        Objects.requireNonNull(right, "right");
        int[] previous = new int[right.length() + 1];
        int[] current = new int[right.length() + 1];
        for (int j = 0; j <= right.length(); j++) {
            previous[j] = j;
        }
        for (int i = 1; i <= left.length(); i++) {
            current[0] = i;
            for (int j = 1; j <= right.length(); j++) {
                int cost = left.charAt(i - 1) == right.charAt(j - 1) ? 0 : 1;
                current[j] = Math.min(
                        previous[j - 1] + cost,
                        Math.min(previous[j], current[j - 1]) + 1);
            }
            int[] swap = previous;
            previous = current;
            current = swap;
        }
        return previous[right.length()];
    }

    /** Levenshtein distance that may ignore case. */
    public static int levenshtein(String left, String right, boolean ignoreCase) {
        if (!ignoreCase) {
            return levenshtein(left, right);
        }
        return levenshtein(left.toLowerCase(Locale.ROOT), right.toLowerCase(Locale.ROOT));
    }

    /** The number of places at which two texts of equal length differ. */
    public static int hamming(String left, String right) {
        if (left.length() != right.length()) {
            throw new IllegalArgumentException(
                    "lengths differ: " + left.length() + " and " + right.length());
        }
        int count = 0;
        for (int i = 0; i < left.length(); i++) {
            if (left.charAt(i) != right.charAt(i)) {
                count++;
            }
        }
        return count;
    }

    /** One for equal texts, zero for texts that share nothing. */
    public static double similarity(String left, String right) {
        int longest = Math.max(left.length(), right.length());
        return longest == 0 ? 1.0 : 1.0 - (double) levenshtein(left, right) / longest;
    }

    /** Whether the distance is at most the limit. */
    public static boolean isWithin(String left, String right, int limit) {
        if (limit < 0) {
            throw new IllegalArgumentException("limit must not be negative: " + limit);
        }
        if (Math.abs(left.length() - right.length()) > limit) {
            return false;
        }
        return levenshtein(left, right) <= limit;
    }

    /** The first of the nearest candidates, or null when there is none. */
    public static String closest(String word, Collection<String> candidates) {
        String best = null;
        int bestDistance = Integer.MAX_VALUE;
        for (String candidate : candidates) {
            int distance = levenshtein(word, candidate);
            if (distance < bestDistance) {
                best = candidate;
                bestDistance = distance;
            }
        }
        return best;
    }

    /** All candidates within the limit, in their given order. */
    public static List<String> suggestions(String word, Collection<String> candidates, int limit) {
        List<String> found = new ArrayList<>();
        for (String candidate : candidates) {
            if (isWithin(word, candidate, limit)) {
                found.add(candidate);
            }
        }
        return found;
    }
}
