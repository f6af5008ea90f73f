// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.units;

import java.time.Duration;
import java.util.Locale;
import java.util.Objects;
import java.util.StringJoiner;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Writes and reads spans of time such as {@code "1h 5m 3s"} and {@code "01:05:03"}. */
public final class DurationFormat {

    private static final Pattern PART = Pattern.compile("(\\d+)([dhms])");

    private DurationFormat() {
    }

    /** Days, hours, minutes and seconds, without the parts that are zero. */
    public static String compact(long seconds) {
        requireNotNegative(seconds);
        if (seconds == 0) {
            return "0s";
        }
        StringJoiner text = new StringJoiner(" ");
        addPart(text, seconds / 86_400, "d");
        addPart(text, seconds / 3_600 % 24, "h");
        addPart(text, seconds / 60 % 60, "m");
        addPart(text, seconds % 60, "s");
        return text.toString();
    }

    public static String compact(Duration duration) {
        return compact(duration.getSeconds());
    }

    /** Hours, minutes and seconds with colons. */
    public static String clock(long seconds) {
        requireNotNegative(seconds);
        return String.format(
                Locale.ROOT, "%02d:%02d:%02d", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    }

    /** The greatest fitting unit in words, rounded down, as in {@code "3 minutes"}. */
    public static String words(long seconds) {
        requireNotNegative(seconds);
        if (seconds >= 86_400) {
            return plural(seconds / 86_400, "day");
        }
        if (seconds >= 3_600) {
            return plural(seconds / 3_600, "hour");
        }
        return seconds >= 60 ? plural(seconds / 60, "minute") : plural(seconds, "second");
    }

    /** Reads the compact form and returns seconds. Each unit may occur once, in falling order. */
    public static long parse(String text) {
        Objects.requireNonNull(text, "text");
        String units = "dhms";
        int nextUnit = 0;
        long total = 0;
        for (String part : text.trim().split("\\s+")) {
            Matcher matcher = PART.matcher(part);
            if (!matcher.matches() || units.indexOf(matcher.group(2)) < nextUnit) {
                throw new IllegalArgumentException("not a duration: " + text);
            }
            nextUnit = units.indexOf(matcher.group(2)) + 1;
            total += Long.parseLong(matcher.group(1)) * secondsIn(matcher.group(2).charAt(0));
        }
        return total;
    }

    /** Reads {@code mm:ss} or {@code hh:mm:ss} and returns seconds. */
    public static long parseClock(String text) {
        String[] parts = text.split(":", -1);
        if (parts.length < 2 || parts.length > 3) {
            throw new IllegalArgumentException("not a clock time: " + text);
        }
        long total = 0;
        for (int i = 0; i < parts.length; i++) {
            int value = Integer.parseInt(parts[i]);
            if (value < 0 || (i > 0 && value > 59)) {
                throw new IllegalArgumentException("out of range: " + text);
            }
            total = total * 60 + value;
        }
        return total;
    }

    /** The number of seconds in one unit. */
    public static long secondsIn(char unit) {
        return switch (unit) {
            case 's' -> 1;
            case 'm' -> 60;
            case 'h' -> 3_600;
            case 'd' -> 86_400;
            default -> throw new IllegalArgumentException("unknown unit: " + unit);
        };
    }

    private static void addPart(StringJoiner text, long count, String unit) {
        if (count > 0) {
            text.add(count + unit);
        }
    }

    private static String plural(long count, String unit) {
        return count + " " + unit + (count == 1 ? "" : "s");
    }

    private static void requireNotNegative(long seconds) {
        if (seconds < 0) {
            throw new IllegalArgumentException("seconds must not be negative: " + seconds);
        }
    }
}
