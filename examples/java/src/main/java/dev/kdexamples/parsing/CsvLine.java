// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/** Reads and writes one line of comma separated values with double quotes around awkward fields. */
public final class CsvLine {

    private CsvLine() {
    }

    /** Splits a line at commas. */
    public static List<String> parse(String line) {
        return parse(line, ',');
    }

    /** Splits a line at a separator. A doubled quote inside quotes stands for one quote. */
    public static List<String> parse(String line, char separator) {
        Objects.requireNonNull(line, "line");
        requireSeparator(separator);
        List<String> fields = new ArrayList<>();
        StringBuilder field = new StringBuilder();
        boolean quoted = false;
        for (int i = 0; i < line.length(); i++) {
            char c = line.charAt(i);
            if (quoted) {
                if (c != '"') {
                    field.append(c);
                } else if (i + 1 < line.length() && line.charAt(i + 1) == '"') {
                    field.append('"');
                    i++;
                } else {
                    quoted = false;
                }
            } else if (c == '"' && field.length() == 0) {
                quoted = true;
            } else if (c == separator) {
                fields.add(field.toString());
                field.setLength(0);
            } else {
                field.append(c);
            }
        }
        if (quoted) {
            throw new IllegalArgumentException("quote is not closed: " + line);
        }
        fields.add(field.toString());
        return fields;
    }

    /** Joins fields with commas. */
    public static String format(List<String> fields) {
        return format(fields, ',');
    }

    /** Joins fields with a separator and quotes those that need it. */
    public static String format(List<String> fields, char separator) {
        requireSeparator(separator);
        StringBuilder line = new StringBuilder();
        for (int i = 0; i < fields.size(); i++) {
            if (i > 0) {
                line.append(separator);
            }
            line.append(quote(fields.get(i), separator));
        }
        return line.toString();
    }

    /** Whether a field must be quoted. */
    public static boolean needsQuotes(String field, char separator) {
        return field.indexOf(separator) >= 0
                || field.indexOf('"') >= 0
                || field.indexOf('\n') >= 0
                || field.indexOf('\r') >= 0;
    }

    /** The field, in quotes if it must be. A null field is written as an empty one. */
    public static String quote(String field, char separator) {
        if (field == null) {
            return "";
        }
        return needsQuotes(field, separator) ? '"' + field.replace("\"", "\"\"") + '"' : field;
    }

    /** The number of fields on a line. */
    public static int count(String line) {
        return parse(line).size();
    }

    private static void requireSeparator(char separator) {
        if (separator == '"' || separator == '\n' || separator == '\r') {
            throw new IllegalArgumentException("not usable as a separator: " + (int) separator);
        }
    }
}
