// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.checksum;

/** The Luhn check digit, as on payment cards. Blanks and hyphens between digits are ignored. */
public final class Luhn {

    private Luhn() {
    }

    /** Whether the last digit is the right check digit for those before it. */
    public static boolean isValid(String number) {
        if (number == null) {
            return false;
        }
        String digits = clean(number);
        if (digits.length() < 2 || !isDigits(digits)) {
            return false;
        }
        return sum(digits, false) % 10 == 0;
    }

    public static boolean isValid(long number) {
        return number >= 0 && isValid(Long.toString(number));
    }

    /** The digit to put after a number. */
    public static int checkDigit(String number) {
        String digits = clean(number);
        if (digits.isEmpty() || !isDigits(digits)) {
            throw new IllegalArgumentException("not a number: " + number);
        }
        return (10 - sum(digits, true) % 10) % 10;
    }

    /** The number with its check digit, without blanks and hyphens. */
    public static String append(String number) {
        return clean(number) + checkDigit(number);
    }

    /** The number without blanks and hyphens. */
    public static String clean(String number) {
        return number.replace(" ", "").replace("-", "");
    }

    /** Hides all but the last four digits. */
    public static String mask(String number) {
        return mask(number, 4);
    }

    /** Hides all but the last digits. */
    public static String mask(String number, int visible) {
        if (visible < 0) {
            throw new IllegalArgumentException("visible must not be negative: " + visible);
        }
        String digits = clean(number);
        int hidden = Math.max(0, digits.length() - visible);
        return "*".repeat(hidden) + digits.substring(hidden);
    }

    private static boolean isDigits(String text) {
        return text.chars().allMatch(c -> c >= '0' && c <= '9');
    }

    private static int sum(String digits, boolean doubleLast) {
        int sum = 0;
        boolean doubled = doubleLast;
        for (int i = digits.length() - 1; i >= 0; i--) {
            int digit = digits.charAt(i) - '0';
            if (doubled) {
                digit = digit * 2 > 9 ? digit * 2 - 9 : digit * 2;
            }
            sum += digit;
            doubled = !doubled;
        }
        return sum;
    }
}
