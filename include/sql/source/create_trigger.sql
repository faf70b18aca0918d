-- Creates the trigger of a source and its function, or replaces them, in one transaction. It fails if the trigger could not be evaluated.
do {steps}
