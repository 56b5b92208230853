from tests.request_accounting import balance

BALANCED = """\
imgserver_http_requests_total{method="GET",route="image",status="200"} 5.0
imgserver_http_requests_total{method="HEAD",route="image",status="206"} 1.0
imgserver_http_requests_total{method="GET",route="image",status="501"} 1.0
imgserver_http_requests_total{method="GET",route="image",status="503"} 2.0
imgserver_http_requests_total{method="GET",route="image",status="499"} 1.0
imgserver_http_requests_total{method="GET",route="livez",status="200"} 9.0
imgserver_lookups_total{outcome="hit"} 4.0
imgserver_lookups_total{outcome="rendered"} 2.0
imgserver_lookups_total{outcome="refused"} 1.0
imgserver_lookups_total{outcome="shed"} 2.0
imgserver_lookups_total{outcome="client_disconnected"} 1.0
"""


def test_one_outcome_per_request_balances():
    assert balance(BALANCED) == []


def test_a_request_without_an_outcome_is_reported():
    assert balance(BALANCED.replace('"hit"} 4', '"hit"} 3')) == [
        "5 hit+stale+joined+rendered, but 6 responses with 200|206",
        "9 outcomes of 10 requests",
    ]


def test_an_outcome_that_does_not_match_the_status_is_reported():
    assert len(balance(BALANCED.replace("shed", "failed"))) == 2


def test_an_unknown_outcome_is_reported():
    assert balance(BALANCED + 'imgserver_lookups_total{outcome="lost"} 0.0\n') == ["unknown outcomes: ['lost']"]


def test_labels_in_another_order_are_reported_as_unreadable():
    reordered = BALANCED.replace('method="GET",route="image"', 'route="image",method="GET"')

    assert "requests cannot be read" in balance(reordered)
