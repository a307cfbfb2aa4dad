from server_process import FILMS, PICTURES, SMALL

KEYS = ["first-key-0123456789", "second-key-0123456789"]


def test_one_address_may_ask_so_often(serve):
    server = serve("--max-requests-per-minute", "5")
    for path in ("/", "/health", "/openapi.json", "/metrics"):
        for _ in range(3):
            assert server.get(path).status == 200
    for _ in range(4):
        assert server.get("/v1/models").status == 200
    assert server.post("/v1/images/generations", {}).status == 400
    for answer in (server.get("/v1/models"), server.post("/v1/images/generations", SMALL)):
        assert answer.status == 429
        error = answer.error()
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert "5 requests per minute" in error["message"]
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert server.get("/health").status == 200


def test_each_key_may_ask_so_often(serve, tmp_path):
    (tmp_path / "keys").write_text("\n".join(KEYS))
    server = serve(
        "--api-key-file",
        tmp_path / "keys",
        "--max-requests-per-minute",
        "3",
        models=(PICTURES, FILMS),
        key=KEYS[0],
    )
    for _ in range(5):
        assert server.get("/v1/models", key="nobody").status == 401
    assert [server.get("/v1/models").status for _ in range(4)] == [200, 200, 200, 429]
    assert [server.get("/v1/models", key=KEYS[1]).status for _ in range(4)] == [200, 200, 200, 429]
