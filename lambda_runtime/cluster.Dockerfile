# The image of a Dask scheduler and of the gateway beside it, in AWS: the function's image, with Dask and the
# client's part of this package. The function itself stays small. From the project's root:
#
#   docker build --file lambda_runtime/cluster.Dockerfile --build-arg FUNCTION_IMAGE=dask-root-lambda .
ARG FUNCTION_IMAGE
FROM ${FUNCTION_IMAGE}

ARG PACKAGES="bokeh>=3.1 dask>=2026.3 distributed>=2026.3 PyYAML>=6 tqdm>=4.66"
ARG PIP_CERT
RUN python3 -m pip --no-cache-dir --python /opt/python/bin/python install ${PACKAGES}
# dask-cloudprovider starts tasks by the names that distributed's commands had once.
RUN for name in scheduler worker; do \
      printf '#!/bin/sh\nexec dask %s "$@"\n' "$name" > "/opt/python/bin/dask-$name" \
      && chmod 755 "/opt/python/bin/dask-$name" || exit 1; \
    done

COPY dask_root_lambda dask_root_lambda
COPY lambda_runtime lambda_runtime
RUN python -m compileall -q --invalidation-mode unchecked-hash .

# For commands, which do not look into the working directory.
ENV PYTHONPATH=/var/task
USER 65534:65534
ENTRYPOINT []
CMD ["dask-scheduler"]
