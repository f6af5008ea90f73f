// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.stubs;

import java.io.IOException;
import java.lang.reflect.Constructor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Test;

/** Runs the compiled test classes below a directory and exits with 1 when one of their tests fails. */
public final class RunTests {

    private int tests;
    private int failures;

    private RunTests() {
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 1) {
            System.err.println("usage: RunTests <directory with compiled test classes>");
            System.exit(2);
        }
        Path root = Path.of(args[0]).toAbsolutePath();
        RunTests run = new RunTests();
        URL[] urls = {root.toUri().toURL()};
        try (URLClassLoader loader = new URLClassLoader(urls, RunTests.class.getClassLoader())) {
            for (String name : testClasses(root)) {
                run.runClass(List.of(Class.forName(name, true, loader)));
            }
        }
        System.out.println(run.tests + " tests, " + run.failures + " failures");
        System.exit(run.failures > 0 || run.tests == 0 ? 1 : 0);
    }

    private static List<String> testClasses(Path root) throws IOException {
        try (Stream<Path> files = Files.walk(root)) {
            return files.map(file -> root.relativize(file).toString())
                    .filter(name -> name.endsWith("Test.class") && !name.contains("$"))
                    .map(name -> name.substring(0, name.length() - ".class".length()))
                    .map(name -> name.replace(root.getFileSystem().getSeparator(), "."))
                    .sorted()
                    .collect(Collectors.toList());
        }
    }

    /** Runs the innermost of some classes that lie in each other, and the nested classes in it. */
    private void runClass(List<Class<?>> classes) {
        Class<?> type = classes.get(classes.size() - 1);
        Method[] methods = type.getDeclaredMethods();
        Arrays.sort(methods, Comparator.comparing(Method::getName));
        for (Method method : methods) {
            if (method.isAnnotationPresent(Test.class)) {
                runTest(classes, method);
            }
        }
        Class<?>[] inner = type.getDeclaredClasses();
        Arrays.sort(inner, Comparator.comparing(Class::getName));
        for (Class<?> nested : inner) {
            if (nested.isAnnotationPresent(Nested.class)) {
                List<Class<?>> chain = new ArrayList<>(classes);
                chain.add(nested);
                runClass(chain);
            }
        }
    }

    private void runTest(List<Class<?>> classes, Method test) {
        tests++;
        String name = test.getDeclaringClass().getName() + "." + test.getName();
        try {
            Object instance = null;
            for (Class<?> type : classes) {
                instance = create(type, instance);
                for (Method method : type.getDeclaredMethods()) {
                    if (method.isAnnotationPresent(BeforeEach.class)) {
                        invoke(method, instance);
                    }
                }
            }
            invoke(test, instance);
        } catch (InvocationTargetException e) {
            failures++;
            System.out.println("FAILED " + name + ": " + e.getCause());
        } catch (ReflectiveOperationException e) {
            failures++;
            System.out.println("FAILED " + name + ": cannot be run: " + e);
        }
    }

    private static Object create(Class<?> type, Object outer) throws ReflectiveOperationException {
        Constructor<?> constructor = outer == null
                ? type.getDeclaredConstructor()
                : type.getDeclaredConstructor(outer.getClass());
        constructor.setAccessible(true);
        return outer == null ? constructor.newInstance() : constructor.newInstance(outer);
    }

    private static void invoke(Method method, Object instance) throws ReflectiveOperationException {
        method.setAccessible(true);
        method.invoke(instance);
    }
}
