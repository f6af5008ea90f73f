// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.collections;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class ListMultimapTest {

    private final ListMultimap<String, Integer> scores = new ListMultimap<>();

    @BeforeEach
    void setUp() {
        scores.put("red", 1);
        scores.put("blue", 5);
        scores.put("red", 3);
    }

    @Test
    void keepsValuesInOrder() {
        assertThat(scores.get("red")).containsExactly(1, 3);
        assertThat(scores.get("blue")).hasSize(1);
        assertThat(scores.get("green")).isEmpty();
        assertThat(scores.getFirst("red")).isEqualTo(1);
        assertThat(scores.getFirst("green")).isNull();
    }

    @Test
    void countsValues() {
        assertThat(scores.size()).isEqualTo(3);
        assertThat(scores.count("red")).isEqualTo(2);
        assertThat(scores.count("green")).isZero();
        assertThat(scores.isEmpty()).isFalse();
        assertThat(new ListMultimap<String, String>().isEmpty()).isTrue();
    }

    @Test
    void addsSeveralAtOnce() {
        scores.putAll("green", List.of(7, 7, 9));
        assertThat(scores.get("green")).containsExactly(7, 7, 9);
        assertThat(scores.size()).isEqualTo(6);
        assertThat(scores.keySet()).containsExactly("red", "blue", "green");
    }

    @Test
    void looksUpEntries() {
        assertThat(scores.containsKey("red")).isTrue();
        assertThat(scores.containsKey("green")).isFalse();
        assertThat(scores.containsEntry("red", 3)).isTrue();
        assertThat(scores.containsEntry("blue", 3)).isFalse();
    }

    @Test
    void removesEntries() {
        assertThat(scores.remove("red", 1)).isTrue();
        assertThat(scores.remove("red", 1)).isFalse();
        assertThat(scores.remove("red", 3)).isTrue();
        assertThat(scores.containsKey("red")).isFalse();
        assertThat(scores.removeAll("blue")).containsExactly(5);
        assertThat(scores.removeAll("blue")).isEmpty();
        assertThat(scores.size()).isZero();
    }

    @Test
    void inverts() {
        scores.put("blue", 3);
        ListMultimap<Integer, String> inverse = scores.inverse();
        assertThat(inverse.get(3)).containsExactly("red", "blue");
        assertThat(inverse.size()).isEqualTo(4);
        assertThat(scores.values()).containsExactly(1, 3, 5, 3);
    }

    @Test
    void isPrintedLikeAMap() {
        assertThat(scores.toString()).isEqualTo("{red=[1, 3], blue=[5]}");
        assertThat(scores.toString()).contains("blue").doesNotContain("green");
    }

    @Test
    void rejectsNullAndChanges() {
        assertThatThrownBy(() -> scores.put(null, 1)).isInstanceOf(NullPointerException.class);
        assertThatThrownBy(() -> scores.get("red").add(4))
                .isInstanceOf(UnsupportedOperationException.class);
    }
}
