"""The variables of a Kubernetes Service whose name begins with `imgserver`."""

import pytest

from imgserver.settings.loader import BadSettings, load

# What Kubernetes sets for a Service with two ports; the link variables have the name of Docker's links.
SERVICE = {
    "SERVICE_HOST": "10.0.171.239",
    "SERVICE_PORT": "8080",
    "SERVICE_PORT_HTTP": "8080",
    "SERVICE_PORT_METRICS_2": "9090",
    "PORT": "tcp://10.0.171.239:8080",
    "PORT_8080_TCP": "tcp://10.0.171.239:8080",
    "PORT_8080_TCP_PROTO": "tcp",
    "PORT_8080_TCP_PORT": "8080",
    "PORT_8080_TCP_ADDR": "10.0.171.239",
    "PORT_53_UDP": "udp://10.0.171.239:53",
    "PORT_53_UDP_PROTO": "udp",
    "PORT_53_UDP_PORT": "53",
    "PORT_53_UDP_ADDR": "fd00::1",
    "PORT_9_SCTP": "sctp://[fd00::1]:9",
}


@pytest.mark.parametrize("service", ["IMGSERVER", "IMGSERVER_SERVER", "IMGSERVER_REDIS", "IMGSERVER_CACHE_V2"])
def test_the_variables_of_a_service_are_ignored(service):
    variables = {f"{service}_{name}": value for name, value in SERVICE.items()}

    loaded = load(None, {**variables, "IMGSERVER_WORKERS_COUNT": "3"}, {})

    assert loaded.settings.workers.count == 3
    assert loaded.settings.server.port == 8080
    assert set(loaded.ignored_variables) == set(variables)


def test_variables_that_are_settings_are_read():
    loaded = load(None, {"IMGSERVER_SERVER_PORT": "9000", "IMGSERVER_TAGS_SERVICE_HOST": "10"}, {})

    assert (loaded.settings.server.port, loaded.settings.tags) == (9000, {"service-host": "10"})
    assert loaded.ignored_variables == ()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("IMGSERVER_PORT", "8080"),
        ("IMGSERVER_PORT", "http://10.0.0.1:8080"),
        ("IMGSERVER_SERVICE_HOST", "images.example"),
        ("IMGSERVER_SERVICE_PORT", "http"),
        ("IMGSERVER_SERVICE_NAME", "imgserver"),
        ("IMGSERVER_PORT_8080_TCP_SIZE", "1"),
        ("IMGSERVER_SERVER_PORT", "tcp"),
    ],
)
def test_other_unknown_variables_are_refused(variable, value):
    with pytest.raises(BadSettings):
        load(None, {variable: value}, {})
