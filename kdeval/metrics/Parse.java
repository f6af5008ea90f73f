import com.sun.source.tree.BlockTree;
import com.sun.source.tree.ClassTree;
import com.sun.source.tree.CompilationUnitTree;
import com.sun.source.tree.MethodTree;
import com.sun.source.tree.Tree;
import com.sun.source.util.JavacTask;
import com.sun.source.util.Trees;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.List;
import javax.tools.Diagnostic;
import javax.tools.JavaCompiler;
import javax.tools.SimpleJavaFileObject;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;

/**
 * Tells which texts the JDK's parser takes for the statements of a method body.
 *
 * <p>Standard input: for each text its number of bytes, as four bytes with the highest first, then the text in UTF-8.
 * Standard output: for each text a byte, '1' where it is valid, else '0'. Ends with its input.
 *
 * <p>Texts are parsed and nothing else: no name is looked up, no class loaded, no annotation processor run.
 */
public final class Parse {
    private static final String BEFORE = "class A { void f() {\n";
    private static final String AFTER = "\n} }"; // the line break ends a comment, which would swallow the brace
    private static final int BODY_END = 2; // in AFTER

    // 20,000 characters nest so deep that the parser needs up to 64 MiB.
    private static final long STACK_BYTES = 256L << 20;

    private final JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
    private final StandardJavaFileManager files = compiler.getStandardFileManager(null, null, null);

    public static void main(String[] arguments) throws InterruptedException {
        Thread parser = new Thread(null, () -> new Parse().answer(System.in), "parser", STACK_BYTES);
        parser.start();
        parser.join();
    }

    private void answer(InputStream stream) {
        if (!isValid("f();")) { // below, a parser that cannot work at all would look like one that refuses texts
            throw new IllegalStateException("the parser refuses the statement f();");
        }
        DataInputStream input = new DataInputStream(stream);
        try {
            while (true) {
                String text = new String(input.readNBytes(input.readInt()), StandardCharsets.UTF_8);
                System.out.write(isValid(text) ? '1' : '0');
                System.out.flush();
            }
        } catch (EOFException end) {
            return;
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private boolean isValid(String text) {
        JavacTask task = (JavacTask) compiler.getTask(
            null, files, Parse::stopAtError, List.of("-proc:none"), null, List.of(new Source(BEFORE + text + AFTER)));
        CompilationUnitTree unit;
        try {
            unit = task.parse().iterator().next();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        } catch (RuntimeException refused) { // by stopAtError, or the parser itself broke on the text
            return false;
        }
        List<? extends Tree> types = unit.getTypeDecls();
        List<? extends Tree> members = ((ClassTree) types.get(0)).getMembers();
        BlockTree body = ((MethodTree) members.get(0)).getBody();
        // Text such as "} void g() {" closes our brace early: then the first body does not end where ours does.
        long end = Trees.instance(task).getSourcePositions().getEndPosition(unit, body);
        return end == BEFORE.length() + text.length() + BODY_END && !body.getStatements().isEmpty();
    }

    /** Ends the parse at the first error. To go on after one can take long, and is where the parser breaks. */
    private static void stopAtError(Diagnostic<?> found) {
        if (found.getKind() == Diagnostic.Kind.ERROR) {
            throw new IllegalArgumentException();
        }
    }

    private static final class Source extends SimpleJavaFileObject {
        private final String text;

        Source(String text) {
            super(URI.create("string:///A.java"), Kind.SOURCE);
            this.text = text;
        }

        @Override
        public CharSequence getCharContent(boolean ignoreEncodingErrors) {
            return text;
        }
    }
}
