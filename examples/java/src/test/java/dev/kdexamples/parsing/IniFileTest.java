// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.Test;

class IniFileTest {

    private static final String TEXT = """
            ; settings of the server
            name = demo

            [server]
            host = localhost
            port = 8080
            secure = yes

            # nothing below is needed
            [client]
            greeting = say "hello" (twice)
            empty =
            """;

    private final IniFile file = IniFile.parse(TEXT);

    @Test
    void readsValues() {
        assertThat(file.get("server", "host")).isEqualTo("localhost");
        assertThat(file.get("", "name")).isEqualTo("demo");
        assertThat(file.get("client", "greeting")).isEqualTo("say \"hello\" (twice)");
        assertThat(file.get("client", "empty")).isEmpty();
        assertThat(file.get("server", "missing")).isNull();
        assertThat(file.get("missing", "host")).isNull();
    }

    @Test
    void fallsBack() {
        assertThat(file.get("server", "missing", "none")).isEqualTo("none");
        assertThat(file.get("server", "host", "none")).isEqualTo("localhost");
        assertThat(file.getInt("server", "timeout", 30)).isEqualTo(30);
    }

    @Test
    void convertsValues() {
        assertThat(file.getInt("server", "port", 80)).isEqualTo(8080);
        assertThat(file.getBoolean("server", "secure")).isTrue();
        assertThat(file.getBoolean("server", "missing")).isFalse();
        assertThatThrownBy(() -> file.getBoolean("server", "host"))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("not a boolean: localhost");
        assertThatThrownBy(() -> file.getInt("server", "host", 1))
                .isInstanceOf(NumberFormatException.class);
    }

    @Test
    void listsSectionsAndKeys() {
        assertThat(file.sections()).containsExactly("", "server", "client");
        assertThat(file.keys("server")).containsExactly("host", "port", "secure");
        assertThat(file.keys("missing")).isEmpty();
        assertThat(file.hasSection("client")).isTrue();
        assertThat(file.hasSection("Client")).isFalse();
    }

    @Test
    void changesValues() {
        var old = file.set("server", "port", "9090");
        assertThat(old).isEqualTo("8080");
        assertThat(file.getInt("server", "port", 0)).isEqualTo(9090);
        assertThat(file.set("new", "key", "value")).isNull();
        assertThat(file.sections()).hasSize(4);
        assertThat(file.remove("new", "key")).isTrue();
        assertThat(file.remove("new", "key")).isFalse();
    }

    @Test
    void formatsWhatCanBeParsed() {
        IniFile small = new IniFile();
        small.set("a", "x", "1");
        small.set("", "top", "2");
        assertThat(small.format()).isEqualTo("top = 2\n[a]\nx = 1\n");
        assertThat(IniFile.parse(small.format()).get("a", "x")).isEqualTo("1");
        assertThat(file.format()).startsWith("name = demo\n").contains("[client]");
    }

    @Test
    void rejectsBadLines() {
        assertThatThrownBy(() -> IniFile.parse("a = 1\n[open")).hasMessageContaining("line 2");
        assertThatThrownBy(() -> IniFile.parse("no value")).hasMessage("line 1: no key and value");
    }
}
