"""The bucket that holds images, answers, heat maps and reports under keys that follow from their content.

May import `transport`, `models`, `settings` and `errors`; boto3 and botocore are imported only here and in `anomaly.connections`.

Public: `bucket` (Archive, client_config), `errors` (translated).
"""
