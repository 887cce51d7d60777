from features.pages import KEPT_US, PageChain, PageRecord
from features.store import Store
from tests.features.rows import NOON_US, slate


def page(request_id: str, root_id: str = "root", *, at_us: int = NOON_US) -> PageRecord:
    return PageRecord(request_id, root_id, "ann", None, at_us, '{"k": 2}')


def test_a_page_knows_all_pages_of_its_list_in_order(url: str) -> None:
    with Store.open(url) as store:
        store.append_slates([slate("root", k=2), slate("alone", k=1)], [page("root")])
        store.append_slates([slate("second", k=3)], [page("second", at_us=NOON_US + 1)])
        expected = PageChain("root", '{"k": 2}', ("i0", "i1", "i0", "i1", "i2"))
        assert store.pages.chain("root", since_us=NOON_US) == expected
        assert store.pages.chain("second", since_us=NOON_US) == expected
        assert store.pages.chain("alone", since_us=0) is None
        assert store.pages.chain("root", since_us=NOON_US + 1) is None


def test_a_list_that_is_read_on_keeps_its_first_pages_and_others_go(url: str) -> None:
    with Store.open(url) as store:
        store.append_slates([slate("root"), slate("old")], [page("root"), page("old", "old")])
        late_us = NOON_US + KEPT_US
        store.append_slates([slate("second")], [page("second", at_us=late_us)])
        assert store.pages.chain("old", since_us=0) is not None
        last_us = late_us + KEPT_US
        store.append_slates([slate("third")], [page("third", at_us=last_us)])
        assert store.pages.chain("old", since_us=0) is None
        chain = store.pages.chain("third", since_us=last_us)
        assert chain is not None
        assert len(chain.item_ids) == 6
