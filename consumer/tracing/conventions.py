"""The names of attributes: those of OpenTelemetry's semantic conventions 1.44, and our own.

They are literals, since those of messaging and RPC are not stable yet: the package keeps them in a private module. A
test compares them with it.
"""

from typing import Final

from opentelemetry.semconv.schemas import Schemas

SCHEMA: Final = Schemas.V1_44_0.value

ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
URL_FULL: Final = "url.full"
HTTP_METHOD: Final = "http.request.method"
HTTP_STATUS: Final = "http.response.status_code"
MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_PARTITION: Final = "messaging.destination.partition.id"
MESSAGING_GROUP: Final = "messaging.consumer.group.name"
MESSAGING_BODY_SIZE: Final = "messaging.message.body.size"
KAFKA_KEY: Final = "messaging.kafka.message.key"
KAFKA_OFFSET: Final = "messaging.kafka.offset"
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"
DB_SYSTEM: Final = "db.system.name"
DB_NAMESPACE: Final = "db.namespace"
DB_OPERATION: Final = "db.operation.name"
DB_PROCEDURE: Final = "db.stored_procedure.name"

#: What the conventions have no name for.
OUTCOME: Final = "photo_tagger.outcome"
ROUND: Final = "photo_tagger.retry.round"
SCORES: Final = "photo_tagger.scores"
BYTES: Final = "photo_tagger.photo.bytes"
MODEL: Final = "photo_tagger.model.name"
MODEL_VERSION: Final = "photo_tagger.model.version"
BATCH: Final = "photo_tagger.batch.photos"
WRITTEN: Final = "photo_tagger.write.outcome"
