// SPDX-License-Identifier: Apache-2.0
package org.assertj.core.api;

/** Stand-in for the AssertJ class of this name. */
public class ThrowableAssert extends AbstractAssert<ThrowableAssert, Throwable> {

    /** Code that may throw. */
    @FunctionalInterface
    public interface ThrowingCallable {

        void call() throws Throwable;
    }

    public ThrowableAssert(Throwable actual) {
        super(actual);
    }

    @Override
    protected ThrowableAssert self() {
        return this;
    }

    public ThrowableAssert hasMessage(String message) {
        return check(message.equals(actual.getMessage()), "does not have the message <" + message + ">");
    }

    public ThrowableAssert hasMessageContaining(String part) {
        String message = actual.getMessage();
        return check(message != null && message.contains(part), "has no message with <" + part + ">");
    }
}
