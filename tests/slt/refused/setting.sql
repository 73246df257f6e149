--! error E0112
--! hint parallelism.default
SET 'parallelism.defalt' = '2';
