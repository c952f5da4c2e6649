// public class Fake { public static void main(String[] args) {} }
/* class Older {
class Oldest { */
package com.ex . shop ;

interface Text {
    String CLASS = "class Text2 { public static void main(String[] a)";

    static void helper(String[] args) {
        Start.main(args);
    }
}

record Item(String name, double price) {
    private static void main(String[] args) {
        throw new IllegalStateException();
    }
}

@Deprecated
abstract class Base {
    static final long BIG = 123456789012L;
    static final double HALF = 0.5;

    abstract void main(String[] args);
}

enum Start {
    NOW;

    @SafeVarargs
    final static synchronized public void main(final String... args) {
        System.out.println(NOW + " " + new Item(args[0], Base.HALF).price() + " " + Base.BIG);
    }
}
