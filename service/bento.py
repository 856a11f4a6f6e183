"""The BentoML service: `bentoml serve service.bento:EcgDirenet`, or `make serve`."""

from __future__ import annotations

import bentoml

from ecg.errors import StoreError
from ecg.store import load_classifier, load_generator
from service.access import rates
from service.audit import trail
from service.edge import create_app
from service.engine import generators_of
from service.framework import EdgeService, supervise_well
from service.settings import Settings
from service.wire import operator_port

settings = Settings()
app = create_app(settings)


@bentoml.service(
    name="ecg-direnet",
    service_class=EdgeService,
    workers=settings.workers,
    # glibc otherwise keeps what large bodies took; with these, blocks of 8 MiB and more go back,
    # and what a batch takes (1.5 MiB a copy) is not fetched from the kernel page by page each time
    envs=[
        {"name": "MALLOC_MMAP_THRESHOLD_", "value": str(2**23)},
        {"name": "MALLOC_TRIM_THRESHOLD_", "value": str(2**26)},
        {"name": "MALLOC_ARENA_MAX", "value": "4"},
        # its threads would wait in a loop, on cores that the models need
        {"name": "OPENBLAS_NUM_THREADS", "value": "1"},
    ],
    logging={"access": {"enabled": False}},  # the edge logs requests itself
)
@bentoml.asgi_app(app, path="/")
class EcgDirenet:
    """Serves the edge; each worker's lifespan loads the models, before its first request."""

    @bentoml.on_deployment
    def share_limits() -> None:
        """Before any worker is started, which all count in the same memory."""
        rates.share(settings.workers)
        operator_port.check_free(settings)

    @bentoml.on_deployment
    def check_models() -> None:
        """Before any worker is started, or they would be restarted forever."""
        supervise_well()
        try:
            for name in settings.classifiers:
                load_classifier(settings.models_store / name, settings.device)
            for name in generators_of(settings):
                load_generator(settings.models_store / name, settings.device)
            trail.check(settings)
        except (StoreError, ValueError, OSError) as error:
            raise SystemExit(f"the service cannot start: {error}") from None

    async def __is_ready__(self) -> bool:
        return trail.ready(app)
