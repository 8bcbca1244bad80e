from starlette.applications import Starlette


def native_app(service, gate, config):
    return Starlette()
