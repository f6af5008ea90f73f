// SPDX-License-Identifier: Apache-2.0
package org.junit.jupiter.api.function;

/** Stand-in for the JUnit 5 interface of this name. */
@FunctionalInterface
public interface Executable {

    void execute() throws Throwable;
}
