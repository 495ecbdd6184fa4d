include $(sort $(wildcard $(BR2_EXTERNAL_TWINWARD_PATH)/package/*/*.mk))
