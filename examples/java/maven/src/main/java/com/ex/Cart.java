package com.ex;

class Cart {
    int count() {
        return 3;
    }
}
