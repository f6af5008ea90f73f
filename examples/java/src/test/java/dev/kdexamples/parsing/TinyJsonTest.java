// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import static org.hamcrest.MatcherAssert.assertThat;
import static org.hamcrest.Matchers.containsString;
import static org.hamcrest.Matchers.hasSize;
import static org.hamcrest.Matchers.instanceOf;
import static org.hamcrest.Matchers.is;
import static org.hamcrest.Matchers.not;
import static org.hamcrest.Matchers.notNullValue;
import static org.hamcrest.Matchers.nullValue;
import static org.hamcrest.Matchers.startsWith;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class TinyJsonTest {

    private static final String ORDER = """
            {
              "id": 17,
              "paid": true,
              "note": null,
              "items": [
                {"name": "tea (green)", "price": 4.5},
                {"name": "cup \\"large\\"", "price": 8e1}
              ]
            }
            """;

    @Test
    void readsSimpleValues() {
        assertThat(TinyJson.parse("42"), is(42L));
        assertThat(TinyJson.parse("-0.5"), is(-0.5));
        assertThat(TinyJson.parse(" true "), is(true));
        assertThat(TinyJson.parse("\"text\""), is("text"));
        assertThat(TinyJson.parse("null"), is(nullValue()));
        assertThat(TinyJson.parse("1e3"), instanceOf(Double.class));
    }

    @Test
    void readsEscapes() {
        assertThat(TinyJson.parse("\"a\\nb\\t\\\"c\\\\\""), is("a\nb\t\"c\\"));
        assertThat(TinyJson.parse("\"\\u00e9\""), is("\u00e9"));
        assertThat(TinyJson.parse("\"\\/\""), is("/"));
    }

    @Test
    void readsArrays() {
        List<?> empty = TinyJson.parseArray("[]");
        assertThat(empty, hasSize(0));
        assertThat(TinyJson.parseArray("[1, [2], {}]"), hasSize(3));
        assertThat(TinyJson.parse("[\"a\", \"b\"]"), is(List.of("a", "b")));
        assertThrows(IllegalArgumentException.class, () -> TinyJson.parseArray("{}"));
    }

    @Test
    void readsObjects() {
        Object order = TinyJson.parse(ORDER);
        assertThat(order, is(instanceOf(Map.class)));
        assertThat(TinyJson.at(order, "id"), is(17L));
        assertThat(TinyJson.at(order, "paid"), is(true));
        assertThat(TinyJson.at(order, "items.0.name"), is("tea (green)"));
        assertThat(TinyJson.at(order, "items.1.name"), is("cup \"large\""));
        assertThat(TinyJson.at(order, "items.1.price"), is(80.0));
    }

    @Test
    void leadsNowhere() {
        Object order = TinyJson.parse(ORDER);
        assertThat(TinyJson.at(order, "note"), nullValue());
        assertThat(TinyJson.at(order, "items.2.name"), nullValue());
        assertThat(TinyJson.at(order, "id.x"), nullValue());
        assertThat(TinyJson.at(order, "items.0"), notNullValue());
    }

    @Test
    void writes() {
        assertThat(TinyJson.write(List.of(1, true, "x")), is("[1,true,\"x\"]"));
        assertThat(TinyJson.write(Map.of("key", List.of())), is("{\"key\":[]}"));
        assertThat(TinyJson.write(null), is("null"));
        assertThat(TinyJson.quote("tab\there"), containsString("\\t"));
        assertThat(TinyJson.quote("\u0001"), is("\"\\u0001\""));
        assertThrows(IllegalArgumentException.class, () -> TinyJson.write(new StringBuilder()));
    }

    @Test
    void readsWhatItWrites() {
        Object order = TinyJson.parse(ORDER);
        String compact = TinyJson.write(order);
        assertThat(TinyJson.parse(compact), is(order));
        assertThat(compact, startsWith("{\"id\":17,"));
        assertThat(compact, not(containsString("\n")));
    }

    @Test
    void rejectsBadText() {
        for (String bad : new String[] {"", "[1,]", "{\"a\" 1}", "01", "tru", "\"open", "1 2", "\"\\x\""}) {
            assertThrows(IllegalArgumentException.class, () -> TinyJson.parse(bad), bad);
        }
        assertThrows(NullPointerException.class, () -> TinyJson.parse(null));
    }
}
