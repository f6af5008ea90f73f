// SPDX-License-Identifier: Apache-2.0
package org.hamcrest;

/** Stand-in for the Hamcrest interface of this name; {@code toString} describes what is expected. */
public interface Matcher<T> {

    boolean matches(Object actual);
}
