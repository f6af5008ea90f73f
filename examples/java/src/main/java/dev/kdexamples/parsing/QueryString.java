// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.stream.Collectors;

/** The parameters of a URL query, in order; a name may occur several times. Instances do not change. */
public final class QueryString {

    private record Parameter(String name, String value) {
    }

    private final List<Parameter> parameters;

    private QueryString(List<Parameter> parameters) {
        this.parameters = List.copyOf(parameters);
    }

    /** A query without parameters. */
    public static QueryString empty() {
        return new QueryString(List.of());
    }

    /** Parses encoded text; a leading question mark is skipped. */
    public static QueryString parse(String query) {
        Objects.requireNonNull(query, "query");
        String text = query.startsWith("?") ? query.substring(1) : query;
        List<Parameter> parsed = new ArrayList<>();
        for (String pair : text.split("&")) {
            if (pair.isEmpty()) {
                continue;
            }
            int equals = pair.indexOf('=');
            String name = equals < 0 ? pair : pair.substring(0, equals);
            String value = equals < 0 ? "" : pair.substring(equals + 1);
            parsed.add(new Parameter(decode(name), decode(value)));
        }
        return new QueryString(parsed);
    }

    /** The first value of a name, or null. */
    public String get(String name) {
        for (Parameter parameter : parameters) {
            if (parameter.name().equals(name)) {
                return parameter.value();
            }
        }
        return null;
    }

    /** The first value of a name, or the fallback. */
    public String get(String name, String fallback) {
        String value = get(name);
        return value == null ? fallback : value;
    }

    /** All values of a name. */
    public List<String> getAll(String name) {
        return parameters.stream()
                .filter(parameter -> parameter.name().equals(name))
                .map(Parameter::value)
                .collect(Collectors.toList());
    }

    public boolean has(String name) {
        return get(name) != null;
    }

    /** The different names in the order in which they first occur. */
    public List<String> names() {
        return parameters.stream().map(Parameter::name).distinct().collect(Collectors.toList());
    }

    public int size() {
        return parameters.size();
    }

    public boolean isEmpty() {
        return parameters.isEmpty();
    }

    /** A copy with one more parameter. */
    public QueryString with(String name, String value) {
        if (name.isEmpty()) {
            throw new IllegalArgumentException("name must not be empty");
        }
        List<Parameter> copy = new ArrayList<>(parameters);
        copy.add(new Parameter(name, Objects.requireNonNull(value, "value")));
        return new QueryString(copy);
    }

    /** A copy with one more whole number. */
    public QueryString with(String name, long value) {
        return with(name, Long.toString(value));
    }

    /** A copy without any parameter of the name. */
    public QueryString without(String name) {
        List<Parameter> copy = new ArrayList<>(parameters);
        copy.removeIf(parameter -> parameter.name().equals(name));
        return new QueryString(copy);
    }

    private static String decode(String text) {
        return URLDecoder.decode(text, StandardCharsets.UTF_8);
    }

    private static String encode(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8);
    }

    /** The encoded query without a question mark. */
    @Override
    public String toString() {
        return parameters.stream()
                .map(parameter -> encode(parameter.name()) + "=" + encode(parameter.value()))
                .collect(Collectors.joining("&"));
    }
}
