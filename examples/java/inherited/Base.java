class Base {
    public static void main(String[] args) {
        System.out.println(Main.name());
    }
}
