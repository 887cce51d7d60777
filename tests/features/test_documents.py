from features.store import Store


def test_a_document_is_kept_by_kind_and_name(url: str) -> None:
    with Store.open(url) as store:
        documents = store.documents
        assert documents.put("rule", "b", '{"n": 1}', updated_at_us=1)
        assert documents.put("rule", "a", "{}", updated_at_us=1)
        assert documents.put("placement", "a", "[]", updated_at_us=1)
        assert documents.all("rule") == {"a": "{}", "b": '{"n": 1}'}
        assert documents.get("placement", "a") == "[]"
        assert documents.get("placement", "b") is None
        assert documents.all("unknown") == {}


def test_only_real_changes_move_the_number_and_a_deletion_is_one(url: str) -> None:
    with Store.open(url) as store, Store.open(url) as other_process:
        documents = store.documents
        assert documents.last_change() == 0
        documents.put("rule", "a", "{}", updated_at_us=1)
        first = documents.last_change()
        assert not documents.put("rule", "a", "{}", updated_at_us=2)
        assert documents.last_change() == first
        assert documents.put("rule", "a", "[]", updated_at_us=3)
        second = other_process.documents.last_change()
        assert second > first
        assert documents.delete("rule", "a", updated_at_us=4)
        assert not documents.delete("rule", "a", updated_at_us=5)
        assert not documents.delete("rule", "never", updated_at_us=5)
        assert other_process.documents.last_change() > second
        assert other_process.documents.get("rule", "a") is None
        assert other_process.documents.all("rule") == {}
        assert documents.put("rule", "a", "[]", updated_at_us=6)
        assert documents.get("rule", "a") == "[]"


def test_a_document_made_of_what_has_changed_since_is_not_written(url: str) -> None:
    with Store.open(url) as store, Store.open(url) as other_process:
        documents = store.documents
        since = documents.last_change()
        assert other_process.documents.put("experiment", "b", "{}", updated_at_us=1)
        assert not documents.put_if_unchanged("experiment", "a", "1", since=since, updated_at_us=2)
        assert documents.get("experiment", "a") is None
        since = documents.last_change()
        assert documents.put_if_unchanged("experiment", "a", "1", since=since, updated_at_us=3)
        assert documents.last_change() > since
        assert other_process.documents.get("experiment", "a") == "1"
        assert not documents.put_if_unchanged("experiment", "a", "2", since=since, updated_at_us=4)
        assert documents.get("experiment", "a") == "1"
