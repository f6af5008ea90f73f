// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.collections;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Test;

class TrieTest {

    private Trie trie;

    @BeforeEach
    void setUp() {
        trie = new Trie();
        trie.addAll("car", "card", "care", "cat", "dog");
    }

    @Test
    void findsWords() {
        assertThat(trie.contains("car")).isTrue();
        assertThat(trie.contains("ca")).isFalse();
        assertThat(trie.contains("")).isFalse();
        assertThat(trie.contains("cards")).isFalse();
    }

    @Test
    void addsWordsOnce() {
        assertThat(trie.add("cow")).isTrue();
        assertThat(trie.add("cow")).isFalse();
        assertThat(trie.size()).isEqualTo(6);
        assertThat(trie.addAll("cow", "hen", "pig")).isEqualTo(2);
    }

    @Nested
    class Prefixes {

        @Test
        void areFound() {
            assertThat(trie.hasPrefix("ca")).isTrue();
            assertThat(trie.hasPrefix("x")).isFalse();
            assertThat(trie.countWithPrefix("car")).isEqualTo(3);
            assertThat(trie.countWithPrefix("z")).isZero();
        }

        @Test
        void listWordsInOrder() {
            assertThat(trie.withPrefix("car")).containsExactly("car", "card", "care");
            assertThat(trie.withPrefix("")).hasSize(5).contains("dog");
            assertThat(trie.withPrefix("cab")).isEmpty();
        }

        @Test
        void giveTheLongestWord() {
            assertThat(trie.longestPrefixOf("cards and dice")).isEqualTo("card");
            assertThat(trie.longestPrefixOf("carpet")).isEqualTo("car");
            assertThat(trie.longestPrefixOf("ca")).isNull();
            assertThat(trie.longestPrefixOf("dogma")).startsWith("do");
        }
    }

    @Test
    void removesWords() {
        assertThat(trie.remove("card")).isTrue();
        assertThat(trie.remove("card")).isFalse();
        assertThat(trie.remove("ca")).isFalse();
        assertThat(trie.contains("car")).isTrue();
        assertThat(trie.withPrefix("card")).isEmpty();
        assertThat(trie.size()).isEqualTo(4);
    }

    @Test
    void becomesEmpty() {
        Trie small = new Trie();
        assertThat(small.isEmpty()).isTrue();
        small.add("a");
        assertThat(small.isEmpty()).isFalse();
        small.remove("a");
        assertThat(small.isEmpty()).isTrue();
        assertThat(small.hasPrefix("a")).isFalse();
    }

    @Test
    void rejectsTheEmptyWord() {
        assertThatThrownBy(() -> trie.add(""))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("empty");
    }
}
