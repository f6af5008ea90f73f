// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Settings in sections, as in {@code [section]} followed by {@code key = value} lines. */
public final class IniFile {

    private final Map<String, Map<String, String>> sections = new LinkedHashMap<>();

    /** Parses text. Lines that start with a semicolon or a hash are comments. */
    public static IniFile parse(String text) {
        IniFile file = new IniFile();
        String section = "";
        int number = 0;
        for (String raw : text.split("\\R", -1)) {
            number++;
            String line = raw.strip();
            if (line.isEmpty() || line.startsWith(";") || line.startsWith("#")) {
                continue;
            }
            if (line.startsWith("[")) {
                if (!line.endsWith("]")) {
                    throw new IllegalArgumentException("line " + number + ": section is not closed");
                }
                section = line.substring(1, line.length() - 1).strip();
                file.sections.computeIfAbsent(section, ignored -> new LinkedHashMap<>());
                continue;
            }
            int equals = line.indexOf('=');
            if (equals < 1) {
                throw new IllegalArgumentException("line " + number + ": no key and value");
            }
            file.set(section, line.substring(0, equals).strip(), line.substring(equals + 1).strip());
        }
        return file;
    }

    /** The value, or null when there is none. */
    public String get(String section, String key) {
        return sections.getOrDefault(section, Map.of()).get(key);
    }

    /** The value, or the fallback when there is none. */
    public String get(String section, String key, String fallback) {
        String value = get(section, key);
        return value == null ? fallback : value;
    }

    /** The value as a whole number, or the fallback when there is none. */
    public int getInt(String section, String key, int fallback) {
        String value = get(section, key);
        return value == null ? fallback : Integer.parseInt(value);
    }

    /** Whether the value is one of true, yes, on and 1. */
    public boolean getBoolean(String section, String key) {
        return switch (get(section, key, "").toLowerCase(Locale.ROOT)) {
            case "true", "yes", "on", "1" -> true;
            case "false", "no", "off", "0", "" -> false;
            default -> throw new IllegalArgumentException("not a boolean: " + get(section, key));
        };
    }

    /** Sets a value and returns the one it replaces, or null. */
    public String set(String section, String key, String value) {
        if (key.isEmpty()) {
            throw new IllegalArgumentException("key must not be empty");
        }
        return sections.computeIfAbsent(section, ignored -> new LinkedHashMap<>()).put(key, value);
    }

    /** Removes a value; says whether there was one. */
    public boolean remove(String section, String key) {
        Map<String, String> values = sections.get(section);
        return values != null && values.remove(key) != null;
    }

    public boolean hasSection(String section) {
        return sections.containsKey(section);
    }

    /** The names of the sections in the order in which they came. */
    public List<String> sections() {
        return new ArrayList<>(sections.keySet());
    }

    /** The keys of one section; empty for an unknown one. */
    public List<String> keys(String section) {
        return new ArrayList<>(sections.getOrDefault(section, Map.of()).keySet());
    }

    /** The settings as text that can be parsed again. */
    public String format() {
        StringBuilder text = new StringBuilder();
        sections.getOrDefault("", Map.of()).forEach((key, value) -> appendLine(text, key, value));
        sections.forEach((name, values) -> {
            if (!name.isEmpty()) {
                text.append('[').append(name).append("]\n");
                values.forEach((key, value) -> appendLine(text, key, value));
            }
        });
        return text.toString();
    }

    private static void appendLine(StringBuilder text, String key, String value) {
        text.append(key).append(" = ").append(value).append('\n');
    }
}
