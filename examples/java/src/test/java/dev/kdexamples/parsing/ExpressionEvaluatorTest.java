// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Test;

class ExpressionEvaluatorTest {

    private static final double DELTA = 1e-9;

    private final ExpressionEvaluator evaluator = new ExpressionEvaluator();

    @Test
    void respectsPrecedence() {
        assertEquals(7.0, ExpressionEvaluator.eval("1 + 2 * 3"), DELTA);
        assertEquals(9.0, ExpressionEvaluator.eval("(1 + 2) * 3"), DELTA);
        assertEquals(1.0, ExpressionEvaluator.eval("10 - 4 - 5"), DELTA);
        assertEquals(2.0, ExpressionEvaluator.eval("17 % 5"), DELTA);
        assertEquals(0.25, ExpressionEvaluator.eval("1/2/2"), DELTA);
    }

    @Test
    void raisesToPowers() {
        assertEquals(512.0, ExpressionEvaluator.eval("2 ^ 3 ^ 2"), DELTA);
        assertEquals(-4.0, ExpressionEvaluator.eval("-2 ^ 2"), DELTA);
        assertEquals(0.5, ExpressionEvaluator.eval("2 ^ -1"), DELTA, "a sign may follow the operator");
    }

    @Test
    void usesVariables() {
        evaluator.set("x", 3).set("rate_1", 0.5);
        assertEquals(9.5, evaluator.evaluate("x * x + rate_1"), DELTA);
        assertTrue(evaluator.isDefined("x"));
        assertFalse(evaluator.isDefined("y"));
        evaluator.set("x", 4);
        assertEquals(4.0, evaluator.evaluate("x"), DELTA);
        assertSame(evaluator, evaluator.set("z", 1));
    }

    @Test
    void callsFunctions() {
        assertEquals(5.0, evaluator.evaluate("sqrt(3^2 + 4^2)"), DELTA);
        assertEquals(2.0, evaluator.evaluate("min(max(1, 2), abs(-3))"), DELTA);
        assertEquals(2L, evaluator.evaluateRounded("5 / 3"));
        assertEquals(-1L, evaluator.evaluateRounded("-4 / 3"));
    }

    @Test
    void computesFromLocals() {
        double width = evaluator.set("w", 2.5).evaluate("w");
        double area = evaluator.evaluate("w * w");
        assertEquals(2.5, width, DELTA);
        assertEquals(6.25, area, DELTA);
    }

    @Nested
    @DisplayName("errors")
    class Errors {

        @Test
        void nameThePosition() {
            IllegalArgumentException error = assertThrows(
                    IllegalArgumentException.class,
                    () -> evaluator.evaluate("1 + "));
            assertEquals("number, name or bracket expected at position 4", error.getMessage());
        }

        @Test
        void ofSyntax() {
            assertThrows(IllegalArgumentException.class, () -> evaluator.evaluate("(1"));
            assertThrows(IllegalArgumentException.class, () -> evaluator.evaluate("1 2"));
            assertThrows(IllegalArgumentException.class, () -> evaluator.evaluate("1.2.3"));
            assertThrows(IllegalArgumentException.class, () -> evaluator.evaluate("cube(2)"));
            assertThrows(IllegalArgumentException.class, () -> evaluator.evaluate("unknown + 1"));
        }

        @Test
        void ofArithmeticAndNames() {
            assertThrows(ArithmeticException.class, () -> evaluator.evaluate("1 / (2 - 2)"));
            assertThrows(ArithmeticException.class, () -> evaluator.evaluate("1 % 0"));
            assertThrows(IllegalArgumentException.class, () -> evaluator.set("2x", 1));
        }
    }
}
