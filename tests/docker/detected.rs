//! Projects as people pack them, with no word on language or entrypoint: each is found, and runs.

use serde_json::json;

use crate::projects::tar_of;
use crate::server::Server;

/// Files by path, and what the project prints.
type Project = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const PROJECTS: [Project; 7] = [
    (
        "python",
        &[
            ("pyproject.toml", "[project]\nname = \"shop\""),
            ("app.py", "from cart import total\nprint(total())"),
            ("cart/__init__.py", "def total():\n    return 42"),
            ("test_shop.py", "raise SystemExit('a test is not the program')"),
            ("deploy.sh", "exit 1"),
            ("static/site.js", "throw 1"),
        ],
        "42\n",
    ),
    (
        "node",
        &[
            (
                "package.json",
                r#"{"name": "shop", "main": "lib/shop", "scripts": {"start": "node bin/shop.js", "test": "jest"}}"#,
            ),
            ("index.js", "throw new Error('not the program')"),
            ("bin/shop.js", "console.log(require('../lib/cart')())"),
            ("lib/cart.js", "module.exports = () => 42"),
            ("tool.py", "exit(1)"),
            ("node_modules/gyp/main.py", "exit(1)"),
        ],
        "42\n",
    ),
    (
        "c",
        &[
            ("Makefile", "all:\n\tcc -o shop *.c"),
            (
                "shop.c",
                "#include <stdio.h>\n#include \"cart.h\"\nint main(void) { printf(\"%d\\n\", total()); return 0; }",
            ),
            ("cart.c", "#include \"cart.h\"\nint total(void) { return 42; }"),
            ("cart.h", "int total(void);"),
            ("run.sh", "make && ./shop"),
            ("gen.py", "exit(1)"),
        ],
        "42\n",
    ),
    (
        "go",
        &[
            ("go.mod", "module example.org/shop\n\ngo 1.24\n"),
            (
                "cmd/shop/main.go",
                "package main\n\nimport (\n\t\"fmt\"\n\n\t\"example.org/shop/cart\"\n)\n\nfunc main() { fmt.Println(cart.Total()) }\n",
            ),
            ("cart/cart.go", "package cart\n\nfunc Total() int { return 42 }\n"),
            ("cart/cart_test.go", "package cart\n"),
            ("main.py", "exit(1)"),
        ],
        "42\n",
    ),
    (
        "bash",
        &[("run.sh", ". lib/cart.sh\ntotal"), ("lib/cart.sh", "total() { echo 42; }"), ("schema.sql", "")],
        "42\n",
    ),
    (
        "java",
        &[
            ("pom.xml", "<project/>"),
            (
                "src/main/java/org/shop/Main.java",
                "package org.shop;\n\npublic class Main {\n    public static void main(String[] args) { System.out.println(Cart.total()); }\n}\n",
            ),
            (
                "src/main/java/org/shop/Cart.java",
                "package org.shop;\n\nclass Cart {\n    static int total() { return 42; }\n}\n",
            ),
            ("tool.py", "exit(1)"),
        ],
        "42\n",
    ),
    (
        "python",
        &[
            (
                "execbox.toml",
                "language = \"python@3\"\nentrypoint = \"shop.py\"\nargs = [\"42\"]\n[env]\nEND = \"!\"\n",
            ),
            ("main.js", ""),
            ("main.py", "exit(1)"),
            ("shop.py", "import os, sys\nprint(sys.argv[1] + os.environ['END'])"),
        ],
        "42!\n",
    ),
];

#[tokio::test]
async fn projects_run_without_a_word_on_what_they_are() {
    let server = Server::start().await;
    for (language, files, stdout) in PROJECTS {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        let result = server.sync(&tar_of(&files), &json!({})).await;
        assert_eq!(result["language"], language, "{result:#}");
        assert_eq!((&result["exit_code"], &result["stdout"]), (&json!(0), &json!(stdout)), "{result:#}");
    }
    server.finish().await;
}

/// Advice changes nothing of the run, and isolation needs no advice.
#[tokio::test]
async fn findings_come_with_the_result_of_the_run() {
    let server = Server::start().await;
    let code = "import socket\ntry:\n    socket.create_connection(('1.1.1.1', 53), 2)\nexcept OSError as error:\n    print('no way')";
    let result = server.eval(&json!({"code": code, "lint": true})).await;
    assert_eq!(result["stdout"], "no way\n", "{result:#}");
    let told = "lint: main.py:1: opens network connections; programs run without a network";
    assert_eq!(result["notices"], json!([told]), "{result:#}");
    server.finish().await;
}
