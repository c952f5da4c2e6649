public class Main extends Base {
    static String name() {
        return "main";
    }
}
