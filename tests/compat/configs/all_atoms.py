"""An access log with every atom."""

import os

workers = 1
threads = 1
accesslog = os.environ["LOGS"] + "/access.log"
access_log_format = (
    '%(h)s %(l)s %(u)s "%(r)s" %(m)s %(U)s %(q)s %(H)s %(s)s %(b)s %(B)s "%(f)s" "%(a)s" '
    "%({x-request-id}i)s %({content-type}o)s %({x-missing}i)s %({wsgi.url_scheme}e)s"
    " t=%(t)s T=%(T)s M=%(M)s D=%(D)s L=%(L)s p=%(p)s"
)
