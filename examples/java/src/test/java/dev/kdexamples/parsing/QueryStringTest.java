// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.Test;

class QueryStringTest {

    private final QueryString query = QueryString.parse("?q=hello+world&page=2&tag=a&tag=b&flag");

    @Test
    void readsValues() {
        assertThat(query.get("q")).isEqualTo("hello world");
        assertThat(query.get("tag")).isEqualTo("a");
        assertThat(query.get("flag")).isEmpty();
        assertThat(query.get("missing")).isNull();
        assertThat(query.get("missing", "none")).isEqualTo("none");
    }

    @Test
    void readsRepeatedNames() {
        assertThat(query.getAll("tag")).containsExactly("a", "b");
        assertThat(query.getAll("missing")).isEmpty();
        assertThat(query.names()).containsExactly("q", "page", "tag", "flag");
        assertThat(query.size()).isEqualTo(5);
    }

    @Test
    void knowsItsNames() {
        assertThat(query.has("page")).isTrue();
        assertThat(query.has("Page")).isFalse();
        assertThat(query.isEmpty()).isFalse();
        assertThat(QueryString.parse("").isEmpty()).isTrue();
        assertThat(QueryString.parse("?&&").size()).isZero();
    }

    @Test
    void decodes() {
        QueryString encoded = QueryString.parse("city=Z%C3%BCrich&sum=1%2B1%3D2");
        assertThat(encoded.get("city")).isEqualTo("Z\u00fcrich");
        assertThat(encoded.get("sum")).isEqualTo("1+1=2");
        assertThat(QueryString.parse("a=b=c").get("a")).isEqualTo("b=c");
    }

    @Test
    void encodes() {
        QueryString built = QueryString.empty().with("q", "a & b").with("page", 3).with("x", "(1)");
        assertThat(built.toString()).isEqualTo("q=a+%26+b&page=3&x=%281%29");
        assertThat(QueryString.empty().toString()).isEmpty();
        assertThat(QueryString.parse(built.toString()).get("q")).isEqualTo("a & b");
    }

    @Test
    void doesNotChange() {
        QueryString longer = query.with("new", "1");
        assertThat(longer).isNotSameAs(query);
        assertThat(longer.has("new")).isTrue();
        assertThat(query.has("new")).isFalse();
        assertThat(query.without("tag").size()).isEqualTo(3);
        assertThat(query.without("tag").names()).doesNotContain("tag");
    }

    @Test
    void rejectsBadArguments() {
        assertThatThrownBy(() -> query.with("", "x")).isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> query.with("x", null))
                .isInstanceOf(NullPointerException.class)
                .hasMessage("value");
        assertThatThrownBy(() -> QueryString.parse(null)).hasMessageContaining("query");
    }
}
