"""The one source of the dashboards in grafana/dashboards; see ``__main__`` for the tool.

``palette`` says what a colour means, ``queries`` how the server's metrics are asked for,
``panels`` what a panel looks like, ``frame`` what all dashboards share. Each other module is
one dashboard. Plain data in, plain JSON out: nothing here knows a Grafana that runs.
"""
