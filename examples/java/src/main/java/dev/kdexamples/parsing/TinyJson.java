// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Collectors;

/**
 * Reads and writes JSON as plain Java values: maps, lists, strings, booleans, null, {@code Long} for
 * whole numbers and {@code Double} for others.
 */
public final class TinyJson {

    private final String text;
    private int position;

    private TinyJson(String text) {
        this.text = text;
    }

    /** Parses one JSON value. */
    public static Object parse(String json) {
        TinyJson reader = new TinyJson(Objects.requireNonNull(json, "json"));
        Object value = reader.value();
        if (reader.peek() != 0 || reader.position < json.length()) {
            throw reader.error("end expected");
        }
        return value;
    }

    /** Parses a JSON array. */
    public static List<?> parseArray(String json) {
        if (parse(json) instanceof List<?> list) {
            return list;
        }
        throw new IllegalArgumentException("not an array: " + json);
    }

    /** The value at a path such as {@code "items.0.name"}, or null where the path leads nowhere. */
    public static Object at(Object root, String path) {
        Object current = root;
        for (String step : path.split("\\.")) {
            if (current instanceof Map<?, ?> map) {
                current = map.get(step);
            } else if (current instanceof List<?> list && step.matches("\\d{1,9}")) {
                int index = Integer.parseInt(step);
                current = index < list.size() ? list.get(index) : null;
            } else {
                return null;
            }
        }
        return current;
    }

    /** Writes a value without white space. */
    public static String write(Object value) {
        if (value == null || value instanceof Boolean || value instanceof Number) {
            return String.valueOf(value);
        }
        if (value instanceof String string) {
            return quote(string);
        }
        if (value instanceof List<?> list) {
            return list.stream().map(TinyJson::write).collect(Collectors.joining(",", "[", "]"));
        }
        if (value instanceof Map<?, ?> map) {
            return map.entrySet().stream()
                    .map(entry -> quote(String.valueOf(entry.getKey())) + ":" + write(entry.getValue()))
                    .collect(Collectors.joining(",", "{", "}"));
        }
        throw new IllegalArgumentException("cannot write " + value.getClass().getName());
    }

    /** Puts text in quotes and escapes what must be escaped. */
    public static String quote(String string) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : string.toCharArray()) {
            switch (c) {
                case '"' -> out.append("\\\"");
                case '\\' -> out.append("\\\\");
                case '\n' -> out.append("\\n");
                case '\t' -> out.append("\\t");
                case '\r' -> out.append("\\r");
                default -> out.append(c < 0x20 ? String.format("\\u%04x", (int) c) : String.valueOf(c));
            }
        }
        return out.append('"').toString();
    }

    private Object value() {
        char c = peek();
        return switch (c) {
            case '{' -> object();
            case '[' -> array();
            case '"' -> string();
            case 't' -> literal("true", Boolean.TRUE);
            case 'f' -> literal("false", Boolean.FALSE);
            case 'n' -> literal("null", null);
            default -> number();
        };
    }

    private Map<String, Object> object() {
        Map<String, Object> map = new LinkedHashMap<>();
        expect('{');
        if (accept('}')) {
            return map;
        }
        do {
            peek();
            String key = string();
            expect(':');
            map.put(key, value());
        } while (accept(','));
        expect('}');
        return map;
    }

    private List<Object> array() {
        List<Object> list = new ArrayList<>();
        expect('[');
        if (accept(']')) {
            return list;
        }
        do {
            list.add(value());
        } while (accept(','));
        expect(']');
        return list;
    }

    private String string() {
        expect('"');
        StringBuilder out = new StringBuilder();
        while (position < text.length()) {
            char c = text.charAt(position++);
            if (c == '"') {
                return out.toString();
            }
            if (c < 0x20) {
                throw error("control character in string");
            }
            out.append(c == '\\' ? escape() : c);
        }
        throw error("string is not closed");
    }

    private char escape() {
        char c = position < text.length() ? text.charAt(position++) : 0;
        switch (c) {
            case 'n':
                return '\n';
            case 't':
                return '\t';
            case 'r':
                return '\r';
            case 'b':
                return '\b';
            case 'f':
                return '\f';
            case 'u':
                if (position + 4 > text.length()) {
                    throw error("escape is cut off");
                }
                position += 4;
                return (char) Integer.parseInt(text.substring(position - 4, position), 16);
            case '"':
            case '\\':
            case '/':
                return c;
            default:
                throw error("unknown escape");
        }
    }

    private Object number() {
        int start = position;
        while (position < text.length() && "+-.eE0123456789".indexOf(text.charAt(position)) >= 0) {
            position++;
        }
        String digits = text.substring(start, position);
        if (digits.matches("-?(0|[1-9]\\d*)")) {
            return Long.valueOf(digits);
        }
        if (digits.matches("-?(0|[1-9]\\d*)(\\.\\d+)?([eE][+-]?\\d+)?")) {
            return Double.valueOf(digits);
        }
        throw error("value expected");
    }

    private Object literal(String word, Object value) {
        if (!text.startsWith(word, position)) {
            throw error("value expected");
        }
        position += word.length();
        return value;
    }

    private char peek() {
        while (position < text.length() && " \t\r\n".indexOf(text.charAt(position)) >= 0) {
            position++;
        }
        return position < text.length() ? text.charAt(position) : 0;
    }

    private boolean accept(char c) {
        if (peek() != c) {
            return false;
        }
        position++;
        return true;
    }

    private void expect(char c) {
        if (!accept(c)) {
            throw error("'" + c + "' expected");
        }
    }

    private IllegalArgumentException error(String message) {
        return new IllegalArgumentException(message + " at position " + position);
    }
}
