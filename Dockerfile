# Two images: `reference` for the detector and the demo, `airflow` for production. The last stage is built by default.
ARG AIRFLOW_IMAGE=apache/airflow:3.3.2-python3.11
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# Contains the ELPV photos, from which the detector is trained. Their licence excludes commercial use.
FROM ${PYTHON_IMAGE} AS reference
WORKDIR /opt/anomaly
COPY constraints.txt ./
COPY reference_detector/requirements.txt reference_detector/
RUN pip install --no-cache-dir -r reference_detector/requirements.txt -c constraints.txt \
    && useradd --uid 50000 --no-create-home reference \
    && install -d -o reference /var/lib/detector \
    && ln -s "$(python -c 'import elpv_dataset, pathlib; print(pathlib.Path(elpv_dataset.__file__).parent / "data")')" photos
COPY reference_detector reference_detector
COPY embedded/__init__.py embedded/demo.py embedded/image_host.py embedded/queries.py embedded/
COPY embedded/sql embedded/sql
USER 50000
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
CMD ["python", "-m", "reference_detector", "--host", "0.0.0.0", "--port", "8600", "--data", "/var/lib/detector"]

FROM ${AIRFLOW_IMAGE} AS airflow
COPY requirements.txt constraints.txt /opt/anomaly/
COPY deploy/server/requirements.txt /opt/anomaly/deploy/server/
# Runs as the user of the official image, which refuses pip as root.
RUN pip install --no-cache-dir -r /opt/anomaly/deploy/server/requirements.txt -c /opt/anomaly/constraints.txt
COPY config /opt/airflow/config
COPY include /opt/airflow/include
COPY plugins /opt/airflow/plugins
COPY deploy/server /opt/airflow/deploy/server
COPY dags /opt/airflow/dags
ENV PYTHONPATH=/opt/airflow:/opt/airflow/plugins:/opt/airflow/config PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 50000
