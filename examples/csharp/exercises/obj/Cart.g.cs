class Cart { public int Count => 3; }
