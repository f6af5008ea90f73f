// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.parsing;

import java.util.HashMap;
import java.util.Map;
import java.util.Objects;

/** Evaluates arithmetic with variables, brackets and a few functions. */
public final class ExpressionEvaluator {

    private final Map<String, Double> variables = new HashMap<>();

    /** Evaluates an expression without variables. */
    public static double eval(String expression) {
        return new ExpressionEvaluator().evaluate(expression);
    }

    /** Sets a variable and returns this evaluator. */
    public ExpressionEvaluator set(String name, double value) {
        if (!name.matches("[A-Za-z_]\\w*")) {
            throw new IllegalArgumentException("not a name: " + name);
        }
        variables.put(name, value);
        return this;
    }

    public boolean isDefined(String name) {
        return variables.containsKey(name);
    }

    /** Evaluates an expression with the variables set so far. */
    public double evaluate(String expression) {
        Parser parser = new Parser(expression);
        double value = parser.sum();
        parser.expectEnd();
        return value;
    }

    /** Evaluates an expression and rounds the result to the nearest whole number. */
    public long evaluateRounded(String expression) {
        return Math.round(evaluate(expression));
    }

    private final class Parser {
        private final String text;
        private int position;

        Parser(String text) {
            this.text = Objects.requireNonNull(text, "expression");
        }

        double sum() {
            double value = product();
            while (true) {
                if (accept('+')) {
                    value += product();
                } else if (accept('-')) {
                    value -= product();
                } else {
                    return value;
                }
            }
        }

        double product() {
            double value = signed();
            while (true) {
                if (accept('*')) {
                    value *= signed();
                } else if (accept('/')) {
                    value /= nonZero(signed());
                } else if (accept('%')) {
                    value %= nonZero(signed());
                } else {
                    return value;
                }
            }
        }

        double signed() {
            if (accept('-')) {
                return -signed();
            }
            return power();
        }

        double power() {
            double base = atom();
            return accept('^') ? Math.pow(base, signed()) : base;
        }

        double atom() {
            if (accept('(')) {
                double value = sum();
                expect(')');
                return value;
            }
            skipSpace();
            int start = position;
            while (position < text.length() && isWordPart(text.charAt(position))) {
                position++;
            }
            if (start == position) {
                throw error("number, name or bracket expected");
            }
            String word = text.substring(start, position);
            if (Character.isLetter(word.charAt(0)) || word.charAt(0) == '_') {
                return accept('(') ? call(word) : variable(word);
            }
            try {
                return Double.parseDouble(word);
            } catch (NumberFormatException e) {
                throw error("not a number: " + word);
            }
        }

        double call(String name) {
            double first = sum();
            double result = switch (name) {
                case "sqrt" -> Math.sqrt(first);
                case "abs" -> Math.abs(first);
                case "min" -> Math.min(first, secondArgument());
                case "max" -> Math.max(first, secondArgument());
                default -> throw error("unknown function: " + name);
            };
            expect(')');
            return result;
        }

        double secondArgument() {
            expect(',');
            return sum();
        }

        double variable(String name) {
            Double value = variables.get(name);
            if (value == null) {
                throw error("unknown variable: " + name);
            }
            return value;
        }

        double nonZero(double divisor) {
            if (divisor == 0) {
                throw new ArithmeticException("division by zero");
            }
            return divisor;
        }

        boolean isWordPart(char c) {
            return Character.isLetterOrDigit(c) || c == '.' || c == '_';
        }

        void skipSpace() {
            while (position < text.length() && text.charAt(position) == ' ') {
                position++;
            }
        }

        boolean accept(char c) {
            skipSpace();
            if (position < text.length() && text.charAt(position) == c) {
                position++;
                return true;
            }
            return false;
        }

        void expect(char c) {
            if (!accept(c)) {
                throw error("'" + c + "' expected");
            }
        }

        void expectEnd() {
            skipSpace();
            if (position < text.length()) {
                throw error("end expected");
            }
        }

        IllegalArgumentException error(String message) {
            return new IllegalArgumentException(message + " at position " + position);
        }
    }
}
