// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.text;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.Test;

class CaseConverterTest {

    @Test
    void splitsWords() {
        assertThat(CaseConverter.words("orderLineId")).containsExactly("order", "line", "id");
        assertThat(CaseConverter.words("HTTPServer")).containsExactly("http", "server");
        assertThat(CaseConverter.words("  two--words ")).hasSize(2);
        assertThat(CaseConverter.words("...")).isEmpty();
        assertThat(CaseConverter.words("area51Gate")).contains("area51", "gate");
    }

    @Test
    void convertsToCamelAndPascal() {
        assertThat(CaseConverter.toCamel("order line id")).isEqualTo("orderLineId");
        assertThat(CaseConverter.toCamel("")).isEmpty();
        assertThat(CaseConverter.toPascal("order_line_id")).isEqualTo("OrderLineId");
        assertThat(CaseConverter.toPascal("XMLFile")).startsWith("Xml");
    }

    @Test
    void convertsToSeparatedStyles() {
        String source = "maxRetryCount";
        assertThat(CaseConverter.toSnake(source)).isEqualTo("max_retry_count");
        assertThat(CaseConverter.toConstant(source)).isEqualTo("MAX_RETRY_COUNT");
        assertThat(CaseConverter.toKebab(source)).isEqualTo("max-retry-count");
        assertThat(CaseConverter.toTitle(source)).isEqualTo("Max Retry Count");
    }

    @Test
    void capitalizesTheFirstLetterOnly() {
        assertThat(CaseConverter.capitalize("wORD")).isEqualTo("WORD");
        assertThat(CaseConverter.capitalize("\u00e9tude")).isEqualTo("\u00c9tude");
        assertThat(CaseConverter.capitalize("(x)")).isEqualTo("(x)");
    }

    @Test
    void recognizesSnakeCase() {
        assertThat(CaseConverter.isSnake("snake_case")).isTrue();
        assertThat(CaseConverter.isSnake("camelCase")).isFalse();
        assertThat(CaseConverter.isSnake("")).isFalse();
        assertThat(CaseConverter.isSnake("with space")).as("a space is no underscore").isFalse();
    }

    @Test
    void convertsThereAndBack() {
        String snake = "customer_first_name";
        String camel = CaseConverter.toCamel(snake);
        String back = CaseConverter.toSnake(camel);
        assertThat(camel).isEqualTo("customerFirstName");
        assertThat(back).isEqualTo(snake);
    }

    @Test
    void rejectsNull() {
        assertThatThrownBy(() -> CaseConverter.words(null))
                .isInstanceOf(NullPointerException.class)
                .hasMessage("text");
        assertThatThrownBy(() -> CaseConverter.capitalize(null)).isInstanceOf(NullPointerException.class);
    }
}
