// SPDX-License-Identifier: Apache-2.0
package org.assertj.core.api;

/** Stand-in for the AssertJ class of this name. */
public class StringAssert extends AbstractAssert<StringAssert, String> {

    public StringAssert(String actual) {
        super(actual);
    }

    @Override
    protected StringAssert self() {
        return this;
    }

    public StringAssert isEmpty() {
        return check(actual.isEmpty(), "is not empty");
    }

    public StringAssert contains(String part) {
        return check(actual.contains(part), "does not contain <" + part + ">");
    }

    public StringAssert doesNotContain(String part) {
        return check(!actual.contains(part), "contains <" + part + ">");
    }

    public StringAssert startsWith(String prefix) {
        return check(actual.startsWith(prefix), "does not start with <" + prefix + ">");
    }
}
