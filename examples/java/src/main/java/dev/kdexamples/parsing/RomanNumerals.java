// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import java.util.Locale;
import java.util.Objects;

/** Converts between whole numbers from 1 to 3999 and Roman numerals. */
public final class RomanNumerals {

    /** The greatest number that can be written. */
    public static final int MAX = 3999;

    private static final int[] VALUES = {1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1};
    private static final String[] SYMBOLS = {
        "M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I"
    };

    private RomanNumerals() {
    }

    /** Writes a number in capitals. */
    public static String format(int number) {
        if (number < 1 || number > MAX) {
            throw new IllegalArgumentException("not between 1 and " + MAX + ": " + number);
        }
        StringBuilder roman = new StringBuilder();
        int rest = number;
        for (int i = 0; i < VALUES.length; i++) {
            while (rest >= VALUES[i]) {
                roman.append(SYMBOLS[i]);
                rest -= VALUES[i];
            }
        }
        return roman.toString();
    }

    /** Writes a number in capitals or small letters. */
    public static String format(int number, boolean lowerCase) {
        String roman = format(number);
        return lowerCase ? roman.toLowerCase(Locale.ROOT) : roman;
    }

    /** Reads a numeral in capitals or small letters; only the standard form is accepted. */
    public static int parse(String roman) {
        Objects.requireNonNull(roman, "roman");
        String capitals = roman.trim().toUpperCase(Locale.ROOT);
        int total = 0;
        for (int i = 0; i < capitals.length(); i++) {
            int value = valueOf(capitals.charAt(i));
            boolean smaller = i + 1 < capitals.length() && value < valueOf(capitals.charAt(i + 1));
            total += smaller ? -value : value;
        }
        if (total < 1 || total > MAX || !format(total).equals(capitals)) {
            throw new IllegalArgumentException("not a Roman numeral: " + roman);
        }
        return total;
    }

    /** Whether the text is a numeral in standard form. */
    public static boolean isValid(String roman) {
        if (roman == null) {
            return false;
        }
        try {
            parse(roman);
            return true;
        } catch (IllegalArgumentException e) {
            return false;
        }
    }

    /** The value of one letter. */
    public static int valueOf(char letter) {
        return switch (letter) {
            case 'I' -> 1;
            case 'V' -> 5;
            case 'X' -> 10;
            case 'L' -> 50;
            case 'C' -> 100;
            case 'D' -> 500;
            case 'M' -> 1000;
            default -> throw new IllegalArgumentException("not a Roman letter: " + letter);
        };
    }

    /** Adds two numerals. */
    public static String add(String left, String right) {
        return format(parse(left) + parse(right));
    }

    /** Compares two numerals by value. */
    public static int compare(String left, String right) {
        return Integer.compare(parse(left), parse(right));
    }
}
