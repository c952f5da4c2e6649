package com.ex;

public class App {
    public static void main(String[] args) {
        System.out.println(new Cart().count());
    }
}
